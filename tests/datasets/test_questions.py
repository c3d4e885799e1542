"""Rule 2 of a usable question: which answers are counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.trace import NUMBER_WORDS
from trainer.datasets.questions import count


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("3", 3),
        (" Three. ", 3),
        ("TWENTY", 20),
        ("007", 7),
        ("400", 400),
        (0, 0),
        (12, 12),
        (3.0, 3),
        ("twenty one", None),
        ("many", None),
        ("doesnotapply", None),
        ("", None),
        (".", None),
        ("3..", None),
        ("<answer> 3 </answer>", 3),
        (r"So it is $\boxed{3.0}$.", 3),
        ("1 + 2 = 3\n#### 3", 3),
        ("<answer>3</answer> or <answer>4</answer>", None),
        (r"\boxed{x}", None),
        ("# 3", None),
        ("3 .", None),
        ("3.5", None),
        ("-1", None),
        ("+1", None),
        ("²", None),
        ("٣", None),
        (-1, None),
        (2.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        (None, None),
        (["3"], None),
        ("9" * 10_000, None),
    ],
)
def test_an_answer_is_a_whole_number_or_none(answer: object, expected: int | None) -> None:
    assert count(answer) == expected


@given(st.integers(0, 10**12), st.sampled_from(["", " ", "\n", "\t "]), st.booleans())
def test_digits_with_space_around_and_a_period_are_read(n: int, space: str, period: bool) -> None:
    assert count(f"{space}{n}{'.' * period}{space}") == n


@given(st.sampled_from(NUMBER_WORDS), st.booleans())
def test_number_words_are_read_in_any_case(word: str, upper: bool) -> None:
    assert count(word.upper() if upper else word) == NUMBER_WORDS.index(word)


@given(st.text())
def test_any_text_gives_a_count_or_none(text: str) -> None:
    found = count(text)
    assert found is None or found >= 0
