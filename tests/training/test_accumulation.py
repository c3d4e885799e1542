"""Splitting a batch into passes saves memory and changes nothing: each loss gives the same update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import set_seed

from trainer.datasets import shapes
from trainer.models import loading
from trainer.spec import config, rewards
from trainer.train import grpo, sft

pytestmark = pytest.mark.training
SMALL = {"optimization.steps": "1", "optimization.batch_size": "16", "max_tokens": "16", "evaluation.encoder": "''"}


def norms(preset: str, settings: dict[str, str], folder: Path) -> list[float]:
    """The gradient's norm of the first update in one, four and sixteen passes."""
    found = []
    for passes in (1, 4, 16):
        chosen = config.override(config.preset(preset), SMALL | settings | {"optimization.accumulation": str(passes)})
        set_seed(0)
        base = loading.load_base(chosen.model)
        examples = shapes.examples("simple", "train", 32, 0)
        trainer: Any
        if chosen.method == "grpo":
            trainer = grpo.build(chosen, base, examples, rewards.build(chosen), folder)
        else:
            trainer = sft.build(chosen, base, examples, folder)
        trainer.train()
        found.append(next(entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry))
        if "grpo.entropy_coef" in settings:
            logged = [entry["entropy_coef"] for entry in trainer.state.log_history if "entropy_coef" in entry]
            assert logged == [pytest.approx(float(settings["grpo.entropy_coef"]))]
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"grpo.loss": "dapo"},
        {"grpo.loss": "bnpo"},
        {"grpo.loss": "grpo"},
        {"grpo.loss": "dr_grpo"},
        {"grpo.loss": "grpo", "grpo.importance": "sequence"},
        {"grpo.mask_truncated": "true"},
        {"grpo.loss": "bnpo", "grpo.entropy_coef": "0.5"},
        {"grpo.loss": "grpo", "grpo.entropy_coef": "0.5", "grpo.beta": "0.1"},
    ],
)
def test_grpo_updates_alike(tmp_path: Path, settings: dict[str, str]) -> None:
    one, *more = norms("shapes-grpo", settings, tmp_path)
    assert one > 0
    assert more == pytest.approx([one, one], rel=1e-3)


@pytest.mark.parametrize("model", ["tiny", "qwen2vl", "qwen25vl", "gemma3"])
def test_sft_updates_alike(tmp_path: Path, folders: dict[str, Path], model: str) -> None:
    one, *more = norms("shapes-sft", {"model.id": str(folders.get(model, model))}, tmp_path)
    assert one > 0
    assert more == pytest.approx([one, one], rel=1e-3)
