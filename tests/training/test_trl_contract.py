"""What we rely on inside TRL 1.16: a new version must pass this before it may be pinned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trl

from trainer import config, datasets, generation, grpo, models, rewards
from trainer.capture import Generation, GenerationCapture

pytestmark = pytest.mark.training


@pytest.fixture
def captured(tmp_path: Path) -> tuple[Any, list[Generation], list[Any], list[Any]]:
    """One generation of a real trainer: trainer, captured generations, TRL's prompt ids, the examples."""
    settings = {"optimization.steps": "1", "optimization.batch_size": "8", "grpo.group_size": "4", "max_tokens": "24"}
    chosen = config.override(config.preset("demo-grpo"), settings)
    base = models.load_base(chosen.model)
    examples = datasets.load("shapes-simple", "train", 6, 0)
    trainer = grpo.build(chosen, base, examples, rewards.build(chosen), tmp_path)
    generations: list[Generation] = []
    GenerationCapture(trainer, generations.append)
    prompt_ids: list[Any] = []
    tokenize = trainer._tokenize_prompts

    def keep(prompts: list[Any]) -> Any:
        found = tokenize(prompts)
        prompt_ids.extend(found[0])
        return found

    trainer._tokenize_prompts = keep
    trainer.train()
    return trainer, generations, prompt_ids, examples


def test_the_pinned_version_is_installed() -> None:
    assert trl.__version__ == "1.16.0"


def test_a_group_stands_side_by_side_and_belongs_to_its_example(captured: Any) -> None:
    _, [generation_], _, examples = captured
    assert [row["example"] for row in generation_.inputs[:4]] == [generation_.inputs[0]["example"]] * 4
    assert generation_.inputs[4]["example"] != generation_.inputs[0]["example"]
    for row in generation_.inputs:
        assert row["answer"] == examples[row["example"]].answer


def test_training_and_evaluation_see_the_very_same_prompt(captured: Any) -> None:
    trainer, [generation_], prompt_ids, examples = captured
    processor = trainer.processing_class
    for row, ids in zip(generation_.inputs, prompt_ids, strict=True):
        example = examples[row["example"]]
        text = generation.render(processor, example, "cot", None)
        assert generation.encode(processor, [example], [text])["input_ids"][0].tolist() == list(ids)


def test_rewards_are_computed_on_the_captured_texts(captured: Any) -> None:
    _, [generation_], _, _ = captured
    assert generation_.rewards["format"] == rewards.format_reward(list(generation_.texts))
    truths = [row["answer"] for row in generation_.inputs]
    assert generation_.rewards["accuracy"] == rewards.accuracy_reward(list(generation_.texts), answer=truths)
    assert len(generation_.advantages) == len(generation_.texts) == 8


def test_lengths_count_the_end_token_and_tell_truncation(captured: Any) -> None:
    _, [generation_], _, _ = captured
    for length, truncated in zip(generation_.lengths, generation_.truncated, strict=True):
        assert 1 <= length <= 24
        assert not truncated or length == 24
