"""What GroupedTrainer and the patches it joins rely on inside TRL."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from transformers import set_seed
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from trainer.datasets import shapes
from trainer.models import loading
from trainer.patches import vocabulary
from trainer.patches.epoch_order import ByEpoch
from trainer.patches.grpo_trainer import GroupedTrainer
from trainer.spec import config, rewards
from trainer.train import grpo

pytestmark = pytest.mark.training


def test_every_method_that_is_overridden_is_one_of_trls() -> None:
    overridden = [name for name, value in vars(GroupedTrainer).items() if inspect.isfunction(value)]
    assert len(overridden) == 5
    assert not [name for name in overridden if not callable(getattr(GRPOTrainer, name, None))]
    assert list(inspect.signature(GRPOTrainer._generate).parameters) == ["self", "prompts"]
    assert list(inspect.signature(GRPOTrainer._prepare_inputs).parameters) == ["self", "generation_batch"]


def test_log_probabilities_still_take_no_number_of_pictures() -> None:
    """Once they do, GroupedTrainer should pass it on."""
    parameters = inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters
    assert "batch_num_images" not in parameters
    assert not [p for p in parameters.values() if p.kind is p.VAR_KEYWORD]


def test_an_epoch_has_the_order_that_it_had_without_a_resume() -> None:
    def sampler() -> RepeatSampler:
        return RepeatSampler(range(7), mini_repeat_count=2, batch_size=3, repeat_count=1, seed=5)

    whole = sampler()
    epochs = [list(whole) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    for number, order in enumerate(epochs):
        resumed = ByEpoch(sampler(), lambda number=number: number)  # type: ignore[misc]
        assert list(resumed) == order == list(resumed)
        assert len(resumed) == len(order)


@pytest.mark.parametrize(("accumulation", "expected"), [(1, [2]), (2, [1, 1])])
def test_accumulation_keeps_groups_together(tmp_path: Path, accumulation: int, expected: list[int]) -> None:
    groups, norm = one_step(tmp_path, accumulation)
    assert groups == expected
    assert norm > 0


def test_accumulation_gives_the_same_update(tmp_path: Path) -> None:
    assert one_step(tmp_path, 1)[1] == pytest.approx(one_step(tmp_path, 2)[1], rel=1e-4)


def one_step(folder: Path, accumulation: int) -> tuple[list[int], float]:
    """Distinct prompts of each forward pass, and the gradient's norm."""
    settings = {
        "optimization.steps": "1",
        "optimization.batch_size": "16",
        "optimization.accumulation": str(accumulation),
        "max_tokens": "16",
        "grpo.beta": "0",
    }
    chosen = config.override(config.preset("shapes-grpo"), settings)
    set_seed(0)
    base = loading.load_base(chosen.model)
    examples = shapes.examples("simple", "train", 4, 0)
    trainer = grpo.build(chosen, base, examples, rewards.build(chosen), folder)
    groups: list[int] = []
    compute = trainer.compute_loss

    def count(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        groups.append(len({tuple(row) for row in inputs["prompt_ids"].tolist()}))
        return compute(model, inputs, *rest, **named)

    trainer.compute_loss = count
    trainer.train()
    return groups, next(e["grad_norm"] for e in trainer.state.log_history if "grad_norm" in e)


def test_only_completions_go_through_the_vocabulary(tmp_path: Path) -> None:
    rows: list[int] = []
    head = vocabulary.utils._ChunkedLogProbFunction
    with pytest.MonkeyPatch.context() as patch:
        counting = type("Counting", (), {"apply": staticmethod(lambda *a: rows.append(len(a[0])) or head.apply(*a))})
        patch.setattr(vocabulary.utils, "_ChunkedLogProbFunction", counting)
        one_step(tmp_path, 1)
    assert len(rows) == 1
    assert 0 < rows[0] <= 16 * 16
