"""Texts that try to earn, and configurations that nobody would write: never an exception, never a gain by padding."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.trace import parse
from trainer.spec import config
from trainer.spec.command_line import command_line
from trainer.spec.config import ConfigError, RunConfig, from_dict
from trainer.spec.rewards import accuracy_reward, cosine_reward, format_reward, keyword_reward, steps_reward

PIECES = (
    *("<think>", "</think>", "<answer>", "</answer>", "<Think>", "< answer>", "<", ">", "</", "\ud83d", "\x00"),
    *("1.", "2.", "3.", " 1. red", "\n2. blue", "three", "3", "3.", "red", "circle", " ", "\n", "\u2003", "٣"),
)
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=20).map("".join)
trying = st.builds("{}<think>{}</think>{}<answer>{}</answer>{}".format, *[texts | st.just("")] * 5) | texts
plain = st.text(st.characters(blacklist_characters="<>"), max_size=30)


def encode(given: list[str]) -> Any:
    """One direction for everything: the highest similarity for whatever is compared."""
    return np.ones((len(given), 1))


def values(text: str, truth: int = 3) -> dict[str, float]:
    """What a completion is paid by every built-in component."""
    every = {
        "format": format_reward([text]),
        "accuracy": accuracy_reward([text], answer=[truth]),
        "steps": steps_reward([text]),
        "keyword": keyword_reward([text]),
        "cosine": cosine_reward([text], reference=["1. red"], encoder=encode),
    }
    return {name: float(found[0] or 0.0) for name, found in every.items()}


@settings(max_examples=150, deadline=None)
@given(trying, plain, plain)
def test_text_before_or_after_never_raises_a_reward(text: str, before: str, after: str) -> None:
    alone, padded = values(text), values(before + text + after)
    assert {name for name in alone if padded[name] > alone[name]} == set()


@settings(max_examples=150, deadline=None)
@given(trying)
def test_without_the_form_nothing_but_the_answer_is_paid(text: str) -> None:
    paid = values(text)
    assert all(0.0 <= value <= 1.0 for value in paid.values())
    if paid["format"] == 0.0:
        assert (paid["steps"], paid["keyword"], paid["cosine"]) == (0.0, 0.0, 0.0)
        assert parse(text).counted_steps == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join))
def test_any_pattern_repeated_is_read_in_linear_time(unit: str) -> None:
    text = "<think>" + unit * (20_000 // len(unit)) + "</think><answer>3</answer>"
    begin = time.process_time()
    values(text)
    assert time.process_time() - begin < 0.5


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def fields(values: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all fields and sections."""
    found = []
    for name, value in values.items():
        found.append((*path, name))
        if isinstance(value, dict):
            found += fields(value, (*path, name))
    return found


FIELDS = fields(RunConfig().model_dump(mode="json"))


def accepted(values: Any) -> RunConfig | None:
    """The config, or None after a refusal in sentences."""
    try:
        return from_dict(values)
    except ConfigError as error:
        lines = str(error).splitlines()
        assert lines and all(line.strip() and line.rstrip().endswith((".", "?")) for line in lines)
        return None


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(FIELDS), anything), min_size=1, max_size=3))
def test_any_json_in_any_field_is_a_config_or_a_sentence(changes: list[tuple[tuple[str, ...], Any]]) -> None:
    values = RunConfig().model_dump(mode="json")
    for (*sections, name), value in changes:
        target: Any = values
        for section in sections:
            target = target.get(section) if isinstance(target, dict) else None
        if isinstance(target, dict):
            target[name] = value
    found = accepted(values)
    if found is not None:
        assert from_dict(json.loads(found.model_dump_json())) == found
        assert command_line(found)


@settings(max_examples=100, deadline=None)
@given(anything)
def test_any_json_is_a_config_or_a_sentence(values: Any) -> None:
    accepted(values)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_override_is_a_config_or_a_sentence(key: str, text: str) -> None:
    for name in (key, "optimization.steps", "rewards.steps", "data"):
        try:
            config.override(RunConfig(), {name: text})
        except ConfigError as error:
            assert str(error).strip()


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_deep_nesting_is_a_sentence(depth: int) -> None:
    with pytest.raises(ConfigError):
        config.override(RunConfig(), {"visual_words": "[" * depth})
