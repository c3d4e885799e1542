"""What a trace said, and where its sentences end."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.trace import parse
from trainer.spec.wording import NULL, sentences, style_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think> 1. a red star </think><answer>1</answer>", "1. a red star"),
        ("a star <answer>1</answer>", "a star  1"),
        ("<think>never closed", "never closed"),
        ("<think></think>", NULL),
        ("", NULL),
    ],
)
def test_a_malformed_trace_has_said_something_too(text: str, expected: str) -> None:
    assert style_text(text, parse(text).think) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. red star 2. blue star so 2", ["1. red star", "2. blue star so 2"]),
        ("1. A star. It is red. 2. Another!", ["1. A star.", "It is red.", "2. Another!"]),
        ("I see 3. So there are 3.", ["I see 3.", "So there are 3."]),
        ("2. out of order 1. first", ["2. out of order", "1. first"]),
        ("It is 1.5 wide\n\n  and  high? Yes", ["It is 1.5 wide", "and high?", "Yes"]),
        (" \n ", []),
    ],
)
def test_sentences_end_where_the_rule_says(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(alphabet="ab1.23 \n!?é\u2028", max_size=60))
def test_sentences_hold_every_word_in_order(text: str) -> None:
    parts = sentences(text)
    assert " ".join(parts).split() == text.split()
    assert all(part.strip() == part and part for part in parts)


def test_hostile_text_takes_linear_time() -> None:
    text = " " * 100_000 + "1." * 50_000 + " 1" * 50_000 + "." * 50_000 + " 1. 2. 3." * 20_000
    start = time.perf_counter()
    sentences(text)
    assert time.perf_counter() - start < 2
