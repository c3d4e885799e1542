"""Describe what a config would do: how many updates, on which example, and what the rewards pay."""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st

from app.shared import format
from trainer.datasets import shapes
from trainer.datasets.example import Example
from trainer.spec.config import BUILT_IN_REWARDS, NEEDS_THINKING, RewardConfig, RunConfig
from trainer.spec.prompt import target
from trainer.spec.rewards import explain


class Pay(NamedTuple):
    """A reward's raw value for a text (None without one), and why."""

    value: float | None
    reason: str


def plan(config: RunConfig) -> list[str]:
    """Return sentences: the updates, how often the data are seen, what is evaluated."""
    data, evaluation = config.data, config.evaluation
    test = f"the test split of {format.count(data.test_examples)} once at the end" if data.test_examples else "no test"
    if config.method == "none":
        return [f"No training: {format.count(data.val_examples)} validation examples are answered, then {test}."]
    steps = config.optimization.steps
    seen = steps * config.prompts_per_step
    share, size = seen / data.train_examples, format.count(data.train_examples)
    probes, validations = steps // evaluation.probe_every, steps // evaluation.val_every
    return [
        _updates(config),
        f"{format.count(seen)} prompts in all: {share:.2g} passes over the {size} training examples.",
        f"{probes} probes of {evaluation.probe_examples} examples, {validations} validations of "
        f"{format.count(data.val_examples)}, {test}.",
    ]


def _updates(config: RunConfig) -> str:
    steps, batch = format.count(config.optimization.steps), config.optimization.batch_size
    if config.method == "sft":
        return f"{steps} updates of {batch} references."
    group = config.grpo.group_size
    return f"{steps} updates of {batch} sequences: {config.prompts_per_step} prompts × groups of {group}."


@st.cache_data(max_entries=16, show_spinner=False)
def example_of(dataset: str, seed: int) -> Example | None:
    """Return the first training example of a drawn dataset; None if only the trainer can read it."""
    drawn = shapes.world_of(dataset)
    if drawn is None:
        return None
    world, difficulty = drawn
    return shapes.examples(difficulty, "train", 1, seed, world)[0]


def right_completion(config: RunConfig, example: Example) -> str:
    """Return what a model that reasons in numbered steps would answer."""
    hits = [item for item in example.meta["objects"] if item["hit"]]
    steps = [f"{i}. {item['color']} {item['kind']} {item['position']}" for i, item in enumerate(hits, start=1)]
    return target(" ".join(steps) or "there are none", example.answer, config.style)


def pays(text: str, truth: int | None, config: RunConfig) -> dict[str, Pay]:
    """Return what each built-in reward pays for a text, whether it is on or not, by name."""
    asked = config.model_copy(update={"rewards": tuple(RewardConfig(name=name) for name in BUILT_IN_REWARDS)})
    left_out = {name: Pay(None, "runs that answer only leave it out") for name in NEEDS_THINKING}
    found = left_out | {each.name: Pay(each.value, each.reason) for each in explain(text, truth, asked)}
    if config.style == "cot":
        found["cosine"] = Pay(
            None, f"similarity to the reference, computed while training by {config.evaluation.encoder}"
        )
    return found
