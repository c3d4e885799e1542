"""Adapters of quantized bases are trained in float32, from the first update through checkpoints to what is exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import set_seed

from store.db.engine import Store
from store.events import list_checkpoints
from tests.training.conftest import SMALL, Train
from trainer.datasets import shapes
from trainer.fit import memory
from trainer.models import adapters, loading
from trainer.spec import config, rewards
from trainer.train import export, grpo, sft

pytestmark = pytest.mark.training
NF4 = {"model.quantization": "nf4", "lora.rank": "4", "optimization.batch_size": "4", "grpo.group_size": "2"}


def built(method: str, settings: dict[str, str], output: Path, start: Path | None = None) -> Any:
    chosen = config.override(config.preset(f"demo-{method}"), SMALL | NF4 | settings)
    set_seed(0)
    base = loading.load_base(chosen.model)
    examples = shapes.examples("simple", "train", 16, 0)
    if method == "grpo":
        return grpo.build(chosen, base, examples, rewards.build(chosen), output, start)
    return sft.build(chosen, base, examples, output, start)


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def moved(trainer: Any) -> float:
    """The share of the entries of LoRA's A that training changes."""
    before = weights(trainer)
    trainer.train()
    chosen = [name for name in before if "lora_A" in name]
    changed = sum(int((weights(trainer)[name] != before[name]).sum()) for name in chosen)
    return changed / sum(before[name].numel() for name in chosen)


def test_a_small_rate_moves_every_weight(tmp_path: Path) -> None:
    slow = {"optimization.steps": "20", "optimization.learning_rate": "1e-5", "optimization.warmup_steps": "0"}
    ours = moved(built("sft", slow, tmp_path))
    theirs = built("sft", slow, tmp_path)
    for parameter in theirs.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)  # as TRL leaves it
    assert ours > 0.99
    assert moved(theirs) < 0.2


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_the_adapter_takes_the_memory_that_is_said(tmp_path: Path, method: str, quantization: str) -> None:
    settings = {"model.quantization": quantization}
    trained = [p for p in built(method, settings, tmp_path).model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    chosen = config.override(config.preset(f"demo-{method}"), SMALL | NF4 | settings)
    said = memory.estimate(chosen, memory.Workload(60, 3 * 96 * 96)).parts["adapter and optimizer"]
    assert said == 4 * sum(p.nbytes for p in trained)


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = built("sft", {"optimization.steps": "3"}, tmp_path)
    whole.args.save_strategy, whole.args.save_steps = "steps", 2
    whole.train()
    resumed = built("sft", {"optimization.steps": "3"}, tmp_path / "other")
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    found = weights(resumed)
    for name, weight in weights(whole).items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=0)


def test_checkpoints_starts_and_exports_keep_every_digit(store: Store, train: Train, tmp_path: Path) -> None:
    run = train("shapes-grpo", NF4 | {"optimization.steps": "2"})
    assert run.status == "finished", run.job
    final = next(Path(row.path) for row in list_checkpoints(store, run.id) if row.kind == "final")
    saved = load_file(final / adapters.WEIGHTS)
    assert {weight.dtype for weight in saved.values()} == {torch.float32}
    begun = weights(built("grpo", {"grpo.beta": "0.1"}, tmp_path, final))
    for name, weight in begun.items():
        assert torch.equal(weight, saved[name.replace(".default", "")]), name
    export.export(store, run.id, "final", tmp_path / "adapter", merge=False)
    exported = load_file(tmp_path / "adapter" / adapters.WEIGHTS)
    assert all(torch.equal(weight, saved[name]) for name, weight in exported.items())
