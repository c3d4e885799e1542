"""What is set on TRL's trainers exists, and is what they go by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import PrinterCallback

from tests.training.conftest import SMALL
from trainer.datasets import shapes
from trainer.models import loading
from trainer.patches import trainers
from trainer.spec import config, rewards
from trainer.train import grpo, sft

pytestmark = pytest.mark.training


def built(method: str, folder: Path) -> Any:
    settings = {"optimization.steps": "1", "optimization.batch_size": "4", "grpo.group_size": "2"}
    chosen = config.override(config.preset(f"demo-{method}"), SMALL | settings)
    base = loading.load_base(chosen.model)
    examples = shapes.examples("simple", "train", 4, 0)
    if method == "grpo":
        return grpo.build(chosen, base, examples, rewards.build(chosen), folder)
    return sft.build(chosen, base, examples, folder)


def test_sft_counts_on_prints_nothing_and_weighs_by_the_tokens_of_the_update(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = built("sft", tmp_path)
    assert trainer.model_accepts_loss_kwargs is True
    assert any(isinstance(callback, PrinterCallback) for callback in trainer.callback_handler.callbacks)
    trainers.print_no_logs(trainer)
    trainers.resume_token_count(trainer, 1_000_000)
    weighed: list[Any] = []
    compute = trainer.compute_loss
    trainer.compute_loss = lambda *given, **named: (
        weighed.append(named["num_items_in_batch"]) or compute(*given, **named)
    )
    trainer.train()
    [logged] = [entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry]
    assert logged > 1_000_000
    assert all(count is not None and count > 0 for count in weighed) and weighed
    assert "num_tokens" not in capsys.readouterr().out


def test_grpo_ends_completions_at_the_tokens_that_are_set(tmp_path: Path) -> None:
    trainer = built("grpo", tmp_path)
    assert trainer.eos_token_ids == sorted(set(trainer.eos_token_ids))
    every = range(len(trainer.processing_class.tokenizer))
    trainers.set_end_tokens(trainer, every)
    trainer.train()
    [length] = [
        entry["completions/mean_length"] for entry in trainer.state.log_history if "completions/mean_length" in entry
    ]
    assert length == 1
