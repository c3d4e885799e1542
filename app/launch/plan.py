"""Describe what a config would do: its updates, an example, and the rewards of a text."""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st

from app.shared import format
from trainer.datasets import shapes
from trainer.datasets.example import Example
from trainer.spec.config import BUILT_IN_REWARDS, NEEDS_THINKING, RewardConfig, RunConfig
from trainer.spec.prompt import target
from trainer.spec.rewards import explain


class RewardValue(NamedTuple):
    """A reward's raw value for a text (None if unknown), and the reason."""

    value: float | None
    reason: str


def plan(config: RunConfig) -> list[str]:
    """Return sentences on the updates, the passes over the data, and the evaluations."""
    data, evaluation = config.data, config.evaluation
    test = f"the test split of {format.count(data.test_examples)} once at the end" if data.test_examples else "no test"
    if config.method == "none":
        return [f"No training: evaluates {format.count(data.val_examples)} validation examples, then {test}."]
    steps = config.optimization.steps
    prompts = steps * config.prompts_per_step
    share, size = prompts / data.train_examples, format.count(data.train_examples)
    probes, validations = steps // evaluation.probe_every, steps // evaluation.val_every
    return [
        _updates(config),
        f"{format.count(prompts)} prompts in total: {share:.2g} passes over the {size} training examples.",
        f"{format.pluralize(probes, 'probe')} of {format.pluralize(evaluation.probe_examples, 'example')}, "
        f"{format.pluralize(validations, 'validation')} of "
        f"{format.count(data.val_examples)}, {test}.",
    ]


def _updates(config: RunConfig) -> str:
    steps, batch = format.pluralize(config.optimization.steps, "update"), config.optimization.batch_size
    if config.method == "sft":
        return f"{steps} of {format.pluralize(batch, 'reference')}."
    group, prompts = config.grpo.group_size, format.pluralize(config.prompts_per_step, "prompt")
    return f"{steps} of {format.pluralize(batch, 'sequence')}: {prompts} × groups of {group}."


@st.cache_data(max_entries=16, show_spinner=False)
def example_of(dataset: str, seed: int) -> Example | None:
    """Return the first training example of a drawn dataset; None for other datasets, which only the trainer reads."""
    world_and_difficulty = shapes.world_of(dataset)
    if world_and_difficulty is None:
        return None
    world, difficulty = world_and_difficulty
    return shapes.examples(difficulty, "train", 1, seed, world)[0]


def right_completion(config: RunConfig, example: Example) -> str:
    """Return a correct completion with numbered reasoning steps."""
    hits = [item for item in example.meta["objects"] if item["hit"]]
    steps = [f"{i}. {item['color']} {item['kind']} {item['position']}" for i, item in enumerate(hits, start=1)]
    return target(" ".join(steps) or "there are none", example.answer, config.style)


def reward_values(text: str, truth: int | None, config: RunConfig) -> dict[str, RewardValue]:
    """Return the value of each built-in reward for a text, on or off, by name."""
    all_rewards = config.model_copy(update={"rewards": tuple(RewardConfig(name=name) for name in BUILT_IN_REWARDS)})
    left_out = {name: RewardValue(None, "not used in runs without thinking") for name in NEEDS_THINKING}
    values = left_out | {each.name: RewardValue(each.value, each.reason) for each in explain(text, truth, all_rewards)}
    if config.style == "cot":
        values["cosine"] = RewardValue(
            None, f"similarity to the reference, computed in training by {config.evaluation.encoder}"
        )
    return values
