"""What is compared with a reference, and when two texts are close."""

from __future__ import annotations

import numpy as np
import pytest

from store.trace import parse
from trainer.spec import similarity
from trainer.spec.wording import style_text


@pytest.mark.parametrize(
    ("text", "compared", "spoken"),
    [
        ("<think> 1. red </think><answer>1</answer>", "1. red", "1. red"),
        ("<think>1. red</think><answer>1</answer> and more", "NULL", "1. red  1  and more"),
        ("1. red", "NULL", "1. red"),
        ("<answer>1</answer>", "NULL", "1"),
        ("", "NULL", "NULL"),
    ],
)
def test_a_malformed_trace_is_null_beside_a_reference_and_itself_beside_an_answer(
    text: str, compared: str, spoken: str
) -> None:
    think = parse(text).think
    assert similarity.compared_text(text, think) == compared
    assert style_text(text, think) == spoken


def test_close_is_above_the_threshold() -> None:
    assert similarity.close_share([similarity.CLOSE, np.nextafter(similarity.CLOSE, 1), 1.0, -1.0]) == 0.5
    assert np.isnan(similarity.close_share([]))


def test_the_floor_counts_each_pair_of_different_examples() -> None:
    references = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert similarity.floor(references) == pytest.approx((1 / 3, 1 / 3))
    assert similarity.floor(references[:1]) is None
