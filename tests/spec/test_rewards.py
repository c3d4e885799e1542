"""What completions are paid: each sentence of the rules, custom rewards, and the reasons in words."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainer.spec.config import ConfigError, RewardConfig, RunConfig, from_dict
from trainer.spec.rewards import (
    accuracy_reward,
    build,
    cosine_reward,
    explain,
    format_reward,
    keyword_reward,
    load_custom,
    random_reward,
    steps_reward,
)

GOOD = "<think>1. red circle top left 2. blue star</think><answer>2</answer>"
MALFORMED = "so " + GOOD
ALL = [{"name": name} for name in ("format", "accuracy", "steps", "keyword", "cosine")]


def think(body: str) -> str:
    return f"<think>{body}</think><answer>3</answer>"


def encode(texts: list[str]) -> NDArray[np.float64]:
    """A stand-in for a sentence encoder: directions by first letter, `-` is opposite to `a`."""
    angles = {"a": 0.0, "b": np.pi / 3, "c": np.pi / 2, "-": np.pi}
    return np.array([[np.cos(angles[text[0]]), np.sin(angles[text[0]])] for text in texts])


def test_format() -> None:
    assert format_reward([GOOD, MALFORMED, "", "<answer>2</answer>"]) == [1.0, 0.0, 0.0, 0.0]
    assert format_reward(["<answer>2</answer>", GOOD], style="direct") == [1.0, 0.0]


@pytest.mark.parametrize("truth", [2, "2", " 2 ", "02", "two", "Two.", np.int64(2)])
def test_accuracy_reads_the_true_count_however_it_is_written(truth: Any) -> None:
    wrong = GOOD.replace(">2<", ">3<")
    assert accuracy_reward([GOOD, MALFORMED, wrong, "2"], answer=[truth] * 4) == [1.0, 1.0, 0.0, 0.0]


def test_accuracy_without_a_true_count() -> None:
    assert accuracy_reward([GOOD, GOOD, "none"], answer=[None, "many", "many"]) == [None, 0.0, 0.0]


def test_accuracy_of_zero() -> None:
    assert accuracy_reward(["<answer>0</answer>", "<answer></answer>"], answer=[0, 0]) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("no steps", 0.0),
        ("1. red", 0.1),
        ("1. a 2. b 3. c", 0.3),
        ("1. a 2. a 3. c", 0.2),
        (" ".join(f"{i}. step {i}" for i in range(1, 11)), 1.0),
        (" ".join(f"{i}. step {i}" for i in range(1, 30)), 1.0),
    ],
)
def test_steps(body: str, value: float) -> None:
    assert steps_reward([think(body), "x" + think(body)]) == [value, 0.0]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("nothing", 0.0),
        ("a Red circle, red again", 0.2),
        ("reddish circles", 0.0),
        ("red-blue (green)", 0.3),
        ("red green blue yellow top left star", 0.5),
    ],
)
def test_keywords(body: str, value: float) -> None:
    assert keyword_reward([think(body), think(body) + "!"]) == [value, 0.0]


def test_keywords_are_a_setting() -> None:
    assert keyword_reward([think("a red DOG, a cat")], words=("dog", "Cat")) == [0.2]


def test_cosine() -> None:
    completions = [think("a"), think("b"), think("c"), think("- no"), "a", think("a"), think("a"), "a"]
    references = ["a", "a", "a", "a", "a", None, " ", None]
    values = cosine_reward(completions, encoder=encode, reference=references)
    assert values == [pytest.approx(1), pytest.approx(0.5), pytest.approx(0), 0.0, 0.0, None, None, None]


def test_cosine_without_any_reference_needs_no_encoder() -> None:
    def never(texts: list[str]) -> NDArray[np.float64]:
        raise AssertionError

    assert cosine_reward([think("a")], encoder=never) == [None]
    assert cosine_reward([MALFORMED], encoder=never, reference=["a"]) == [0.0]


def test_completions_may_be_message_lists() -> None:
    conversations = [
        [{"role": "assistant", "content": GOOD}],
        [{"role": "assistant", "content": [{"type": "text", "text": GOOD}]}],
        [
            {"role": "assistant", "content": None},
            {"role": "tool", "content": "noise"},
            {"role": "assistant", "content": GOOD},
        ],
        [{"role": "assistant", "content": MALFORMED}],
        [],
    ]
    assert format_reward(conversations) == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_columns_that_nobody_asked_for_are_ignored() -> None:
    columns = {"prompts": ["?"], "completion_ids": [[1]], "answer": [2], "question": ["?"], "trainer_state": object()}
    for reward in build(from_dict({"rewards": ALL}), encode):
        assert len(reward.function(completions=[GOOD], **columns)) == 1


def test_every_function_has_the_name_of_its_component() -> None:
    rewards = build(from_dict({"rewards": ALL, "grpo": {"beta": 0}}), encode)
    assert [reward.function.__name__ for reward in rewards] == [r["name"] for r in ALL] == [r.name for r in rewards]


def test_settings_come_from_the_config_whatever_columns_say() -> None:
    config = from_dict({"rewards": ALL, "visual_words": ["dog"]})
    functions = {reward.name: reward.function for reward in build(config, encode)}
    assert functions["keyword"]([think("dog red")], words=[["red"]], style=["direct"]) == [0.1]
    assert functions["cosine"]([think("a")], reference=["b"], encoder=["?"]) == [pytest.approx(0.5)]


def test_weights_and_order_are_kept() -> None:
    config = from_dict({"rewards": [{"name": "steps", "weight": 0.5}, {"name": "format", "weight": 0}]})
    assert [(reward.name, reward.weight) for reward in build(config)] == [("steps", 0.5), ("format", 0.0)]


def test_the_direct_style_has_no_rewards_for_thinking() -> None:
    config = from_dict({"style": "direct", "rewards": ALL})
    rewards = build(config)
    assert [reward.name for reward in rewards] == ["format", "accuracy"]
    assert [reward.function(["<answer>2</answer>"], answer=[2]) for reward in rewards] == [[1.0], [1.0]]


def test_cosine_needs_an_encoder() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.encoder"):
        build(from_dict({"rewards": ALL}))


def custom(folder: Path, source: str, name: str = "brevity") -> RewardConfig:
    path = folder / "mine.py"
    path.write_text(source, encoding="utf-8")
    return RewardConfig(name=f"{path}:{name}", weight=2)


def test_a_custom_reward_keeps_its_source(tmp_path: Path) -> None:
    source = (
        "import math\ndef brevity(completions, answer, **_):\n    return [math.exp(-len(c)) for c in completions]\n"
    )
    reward = load_custom(custom(tmp_path, source))
    assert (reward.name, reward.weight, reward.function.__name__) == ("brevity", 2, "brevity")
    assert reward.function(["", "ab"], answer=[1, 1]) == [1.0, pytest.approx(0.1353, abs=1e-4)]
    assert reward.source == source and reward.sha256 == hashlib.sha256(source.encode()).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_an_edited_custom_reward_is_read_anew(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        reward = load_custom(custom(tmp_path, f"def brevity(completions, **columns):\n    return [{value}]\n"))
        assert reward.function(["x"]) == [value]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("def other(completions): ...", "no function brevity"),
        ("brevity = 3", "no function brevity"),
        ("class brevity: ...", "no function brevity"),
        (
            "import nowhere_to_be_found",
            "cannot be imported .ModuleNotFoundError: No module named 'nowhere_to_be_found'",
        ),
        ("def brevity(", "cannot be imported .SyntaxError"),
        ("raise SystemExit(3)", "cannot be imported .SystemExit: 3"),
        ("1 / 0", "cannot be imported .ZeroDivisionError: division by zero.*Fix the file"),
    ],
)
def test_a_custom_reward_that_cannot_be_used(tmp_path: Path, source: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_custom(custom(tmp_path, source))


def test_a_custom_reward_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        load_custom(RewardConfig(name=f"{tmp_path}/nowhere.py:brevity"))


def reasons(text: str, truth: int | None = 2, **changes: Any) -> dict[str, tuple[float | None, str]]:
    config = from_dict({"rewards": ALL, **changes})
    return {found.name: (found.value, found.reason) for found in explain(text, truth, config)}


def test_the_reasons_of_a_good_completion() -> None:
    assert reasons(GOOD) == {
        "format": (1.0, "well-formed"),
        "accuracy": (1.0, "answers 2, which is correct"),
        "steps": (0.2, "2 × 0.1"),
        "keyword": (0.5, "6 × 0.1, capped at 5: blue, circle, left, red, star, top"),
        "cosine": (None, "no reference to compare with"),
    }


def test_the_reasons_of_a_malformed_completion() -> None:
    found = reasons(MALFORMED, 3)
    assert found["format"] == (0.0, "The text begins with 'so <think>1. red cir', not with <think>.")
    assert found["accuracy"] == (0.0, "answers 2, the true count is 3")
    assert [found[name] for name in ("steps", "keyword")] == [(0.0, "not well-formed")] * 2
    assert found["cosine"][1] == "not well-formed"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("no list", "no numbered steps"),
        ("1. a 2. b 3. b 4. c 5. d", "4 × 0.1; step 3 repeats step 2"),
        (
            "1. a 2. a 3. - 4. a 5. a 6. a",
            "1 × 0.1; step 2 repeats step 1; step 3 contains no word; step 4 repeats step 1; 2 more steps do not count",
        ),
        (" ".join(f"{i}. s{i}" for i in range(1, 13)), "12 × 0.1, capped at 10"),
    ],
)
def test_the_reason_of_the_steps_reward(body: str, reason: str) -> None:
    assert reasons(think(body))["steps"][1] == reason


@pytest.mark.parametrize(
    ("text", "truth", "reason"),
    [
        ("none", 2, "no single <answer>…</answer>"),
        ("<answer> about 3 </answer>", 2, "'about 3' is not a count"),
        (GOOD, None, "the true count is unknown"),
    ],
)
def test_the_reason_of_the_accuracy_reward(text: str, truth: int | None, reason: str) -> None:
    assert reasons(text, truth)["accuracy"][1] == reason


def test_what_cannot_be_computed_here_is_taken_from_the_record(tmp_path: Path) -> None:
    mine = f"{tmp_path}/mine.py:brevity"
    config = from_dict({"rewards": [{"name": "cosine"}, {"name": mine}]})
    found = explain(GOOD, 2, config, recorded={"cosine": 0.71, "brevity": 0.2})
    assert [(e.name, e.value) for e in found] == [("cosine", 0.71), ("brevity", 0.2)]
    assert [e.reason for e in found] == ["similarity to the reference, by all-MiniLM-L6-v2", f"computed by {mine}"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=40) | st.sampled_from([GOOD, MALFORMED])), st.sampled_from(["cot", "direct"]))
def test_every_value_is_in_range_and_explained_alike(texts: list[str], style: str) -> None:
    config = from_dict({"rewards": ALL[:4], "style": style})
    rewards = build(config)
    columns = {reward.name: reward.function(texts, answer=[2] * len(texts)) for reward in rewards}
    for i, text in enumerate(texts):
        found = {each.name: each.value for each in explain(text, 2, config)}
        assert found == {name: values[i] for name, values in columns.items()}
        assert all(value is not None and 0 <= value <= 1 for value in found.values())


def test_a_run_config_is_all_that_explain_needs() -> None:
    assert list(inspect.signature(explain).parameters)[:3] == ["text", "answer", "config"]
    assert [found.weight for found in explain("", 1, RunConfig())] == [1.0, 2.0, 0.5]


def test_the_random_reward_is_a_fair_coin_that_repeats_with_its_seed() -> None:
    texts = [GOOD] * 2000
    asked = ["How many?"] * 2000
    first = random_reward(texts, question=asked, seed=1)
    assert first == random_reward(texts, question=asked, seed=1)
    assert first != random_reward(texts, question=asked, seed=2)
    assert set(first) == {0.0, 1.0}
    assert 0.45 < sum(value or 0 for value in first) / 2000 < 0.55
