"""What we rely on inside TRL 1.16: a new version must pass this before it may be pinned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trl

from trainer.datasets import shapes
from trainer.evaluate import generation
from trainer.evaluate.decoding import end_ids
from trainer.evaluate.harness import harness_for
from trainer.models import loading
from trainer.record.vr1z import Generation, GenerationCapture
from trainer.spec import config, foreign, rewards
from trainer.train import grpo

pytestmark = pytest.mark.training


@pytest.fixture
def captured(tmp_path: Path) -> tuple[Any, list[Generation], list[Any], list[Any]]:
    """One generation of a real trainer: trainer, captured generations, TRL's prompt ids, the examples."""
    settings = {"optimization.steps": "1", "optimization.batch_size": "8", "grpo.group_size": "4", "max_tokens": "24"}
    chosen = config.override(config.preset("shapes-grpo"), settings)
    base = loading.load_base(chosen.model)
    examples = shapes.examples("simple", "train", 6, 0)
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


RECORDING = """
seen = []

def pay(**handed):
    seen.append(handed)
    return [1.0] * len(handed["completions"])
"""


def test_an_evaluation_hands_a_reward_what_trl_hands_it(tmp_path: Path) -> None:
    """The same names, prompts, messages, ids, pictures and columns for the same completions."""
    (tmp_path / "mine.py").write_text(RECORDING, encoding="utf-8")
    chosen = config.override(
        config.preset("shapes-grpo"),
        {
            "optimization.steps": "1",
            "optimization.batch_size": "4",
            "grpo.group_size": "2",
            "max_tokens": "24",
            f"rewards.{tmp_path}/mine.py:pay": "1",
        },
    )
    base = loading.load_base(chosen.model)
    examples = shapes.examples("simple", "train", 3, 0)
    paid = rewards.build(chosen)
    trainer = grpo.build(chosen, base, examples, paid, tmp_path / "out")
    trainer.train()
    own = foreign.load(f"{tmp_path}/mine.py:pay", "rewards", "()").call
    [by_trl] = own.__globals__["seen"]

    by_question = {example.question: example for example in examples}
    asked = [by_question[question] for question in by_trl["question"]]
    ends = end_ids(base.model, base.processor)
    answers = [
        generation.GeneratedAnswer(generation.decode(base.processor.tokenizer, ids, ends), tuple(ids), False, 0.0)
        for ids in by_trl["completion_ids"]
    ]
    harness = harness_for(chosen, base.model, base.processor, paid, None)
    harness.rows(asked, answers, [1] * 4, [0] * 4, step=0)
    by_us = own.__globals__["seen"][1]
    assert set(by_us) == set(by_trl)
    for name in ("prompts", "completions", "completion_ids", "images", "answer", "question", "reference"):
        assert by_us[name] == by_trl[name], name
    assert by_us["prompts"][0][0]["content"][0]["image"] == asked[0].images[0]
    assert type(by_us["trainer_state"]) is type(by_trl["trainer_state"])
    assert by_us["trainer_state"].max_steps == by_trl["trainer_state"].max_steps == 1
    for name in ("log_metric", "log_extra"):
        assert callable(by_us[name]) and callable(by_trl[name])


def test_lengths_count_the_end_token_and_tell_truncation(captured: Any) -> None:
    _, [generation_], _, _ = captured
    for length, truncated in zip(generation_.lengths, generation_.truncated, strict=True):
        assert 1 <= length <= 24
        assert not truncated or length == 24
