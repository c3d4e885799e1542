"""Trying out before a run: a real update is timed, and the heaviest pass leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import SMALL
from trainer import calibration, config, datasets, grpo, models, rewards, sft

pytestmark = pytest.mark.training


@pytest.mark.parametrize("preset", ["demo-grpo", "demo-sft"])
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
    base = models.load_base(chosen.model)
    examples = datasets.load("shapes-simple", "train", 16, 0)
    trainer: Any
    if method == "grpo":
        trainer = grpo.build(chosen, base, examples, rewards.build(chosen), tmp_path)
    else:
        trainer = sft.build(chosen, base, examples, tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    state = torch.get_rng_state()
    shapes: list[tuple[int, int]] = []
    embedding = trainer.model.get_input_embeddings()
    embedding.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[:2])))
    reached: list[bool] = []
    trained = next(p for p in trainer.model.parameters() if p.requires_grad)
    trained.register_hook(lambda gradient: reached.append(True))
    calibration.rehearse(trainer, base.processor, examples, chosen)
    rows, width = max(shapes)
    assert rows == chosen.micro_batch
    assert width > chosen.max_tokens
    assert reached, "no gradient came back to the adapter"
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in trainer.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
