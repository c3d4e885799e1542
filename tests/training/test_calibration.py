"""Trying out before a run: a real update is timed, and the heaviest pass leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import SMALL
from trainer.datasets import shapes
from trainer.fit import memory
from trainer.models import loading
from trainer.spec import config, rewards
from trainer.train import calibration, grpo, sft

pytestmark = pytest.mark.training


@pytest.mark.parametrize("preset", ["shapes-grpo", "shapes-sft"])
def test_one_update_is_timed(preset: str) -> None:
    found = calibration.calibrate(config.override(config.preset(preset), SMALL))
    assert 0 < found.seconds < 60
    assert found.peak > 100 * 1024**2


@pytest.mark.parametrize("checkpointing", ["false", "true"])
@pytest.mark.parametrize("method", ["grpo", "sft"])
@pytest.mark.parametrize("model", ["tiny", "qwen2vl"])
def test_a_rehearsal_runs_the_longest_pass_and_leaves_no_trace(
    folders: dict[str, Path], tmp_path: Path, model: str, method: str, checkpointing: str
) -> None:
    settings = {"model.id": str(folders.get(model, model)), "optimization.gradient_checkpointing": checkpointing}
    chosen = config.override(config.preset(f"demo-{method}"), SMALL | settings)
    base = loading.load_base(chosen.model)
    examples = shapes.examples("simple", "train", 16, 0)
    trainer: Any
    if method == "grpo":
        trainer = grpo.build(chosen, base, examples, rewards.build(chosen), tmp_path)
    else:
        trainer = sft.build(chosen, base, examples, tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    state = torch.get_rng_state()
    passes: list[tuple[int, int]] = []
    embedding = trainer.model.get_input_embeddings()
    embedding.register_forward_hook(lambda module, inputs, output: passes.append(tuple(output.shape[:2])))
    reached: list[bool] = []
    trained = next(p for p in trainer.model.parameters() if p.requires_grad)
    trained.register_hook(lambda gradient: reached.append(True))
    calibration.rehearse(trainer, base.processor, examples, chosen)
    rows, width = max(passes)
    assert rows == chosen.micro_batch
    assert width >= chosen.max_tokens
    assert reached, "no gradient came back to the adapter"
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in trainer.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


@pytest.mark.parametrize("checkpointing", ["false", "true"])
@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_a_rehearsal_keeps_what_the_training_keeps(
    folders: dict[str, Path], tmp_path: Path, method: str, checkpointing: str
) -> None:
    settings = {"model.id": str(folders["qwen2vl"]), "optimization.gradient_checkpointing": checkpointing}
    chosen = config.override(config.preset(f"demo-{method}"), SMALL | settings | {"optimization.steps": "1"})
    base = loading.load_base(chosen.model)
    examples = shapes.examples("simple", "train", 16, 0)
    trainer: Any
    if method == "grpo":
        trainer = grpo.build(chosen, base, examples, [rewards.Reward("number", 1.0, number)], tmp_path)
    else:
        trainer = sft.build(chosen, base, examples, tmp_path)
    with kept(trainer) as rehearsed:
        calibration.rehearse(trainer, base.processor, examples, chosen)
    compute, trained = trainer.compute_loss, [0]

    def counting(*arguments: Any, **named: Any) -> Any:
        with kept(trainer) as found:
            loss = compute(*arguments, **named)
        trained.append(sum(found.values()))
        return loss

    trainer.compute_loss = counting
    trainer.train()
    assert 0.97 * max(trained) <= sum(rehearsed.values()) <= 1.25 * max(trained)


def number(texts: list[str], *, completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
    return [float(sum(ids) % 7) for ids in completion_ids]


@contextmanager
def kept(trainer: Any) -> Iterator[dict[int, int]]:
    """Bytes that autograd keeps for the backward pass by where they lie, weights left out."""
    own = {p.untyped_storage().data_ptr() for p in trainer.model.parameters()}
    alive: list[torch.Tensor] = []  # or another would come to lie in the same place
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield found


def test_the_peak_after_a_rehearsal_is_the_trainings_own(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: forgotten.append(True))
    memory.forget_peak()
    assert forgotten
