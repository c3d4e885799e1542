"""Figures of an evaluation, against values computed by hand."""

from __future__ import annotations

import pytest

from store import trace
from store.db.rows import PredictionRow
from trainer.evaluate import metrics


def row(text: str, truth: int, *, example: int = 0, sample: int = 0, similarity: float | None = None) -> PredictionRow:
    parsed = trace.parse(text)
    return PredictionRow(
        text=text,
        think=parsed.think,
        answer_span=parsed.answer_span,
        answer=parsed.answer,
        wellformed=parsed.wellformed,
        correct=parsed.answer == truth,
        reasoning_steps=parsed.counted_steps,
        tokens=len(text),
        example_id=example,
        sample=sample,
        similarity=similarity,
    )


def said(think: str, answer: object) -> str:
    return f"<think>{think}</think><answer>{answer}</answer>"


TRUTHS = [3, 5, 40, 2]
ROWS = [
    row(said("1. red 2. blue 3. green", 3), 3, similarity=0.9),
    row(said("there are four", 6), 5, similarity=0.5),
    row(said("many", 42), 40, similarity=0.7),
    row("I see 2", 2, similarity=0.1),
]


def test_the_figures_of_four_predictions() -> None:
    figures = metrics.summarize(ROWS, TRUTHS, ["simple", "simple", "complex", None])
    assert (figures["n"], figures["exact_match"], figures["exact_match_lenient"]) == (4, 0.25, 0.5)
    assert (figures["off_by_one"], figures["relaxed"]) == (0.5, 0.5)
    assert figures["mean_absolute_error"] == pytest.approx((0 + 1 + 2) / 3)
    assert figures["rmse"] == pytest.approx(((0 + 1 + 4) / 3) ** 0.5)
    assert (figures["wellformed"], figures["answered"]) == (0.75, 0.75)
    assert figures["consistent"] == 0.5
    assert figures["by_count"] == {"2": [0, 1], "3": [1, 1], "5": [0, 1], "40": [0, 1]}
    assert figures["by_difficulty"] == {"complex": [0, 1], "simple": [1, 2], "unknown": [0, 1]}
    assert figures["cos_mean"] == pytest.approx(0.55)
    assert figures["cos_mean_wellformed"] == pytest.approx(0.7)
    assert (figures["cos_at_0.8"], figures["cos_at_0.8_wellformed"]) == (0.25, pytest.approx(1 / 3))


def test_steps_are_compared_with_the_count_only_where_they_are_numbered() -> None:
    """Prose, and an empty scene, number nothing; of the three that do, two list as many as they count."""
    listed = ["1. red 2. blue", "1. red 2. blue", "1. one of them"]
    rows = [row(said(think, 2), 2) for think in listed]
    prose = [row(said("a red and a blue one", 2), 2), row(said("none is there", 0), 0)]
    assert metrics.summarize([*rows, *prose], [2, 2, 2, 2, 0])["steps_equal_count"] == pytest.approx(2 / 3)
    assert metrics.summarize(prose, [2, 0])["steps_equal_count"] is None


def test_without_answers_there_are_no_errors() -> None:
    figures = metrics.summarize([row("no idea", 1)], [1])
    assert (figures["mean_absolute_error"], figures["rmse"], figures["consistent"]) == (None, None, None)
    assert "by_difficulty" not in figures


@pytest.mark.parametrize(
    ("think", "number"),
    [("1. a 2. b", 2), ("I see Three.", 3), ("one, then twelve", 12), ("none at all", None), ("someone often", None)],
)
def test_what_a_thinking_concludes(think: str, number: int | None) -> None:
    assert metrics.concluded_number(think) == number


def test_pass_and_majority_of_two_examples() -> None:
    """One right of four samples, answers 3 4 4 5; then three right of four."""
    answers = {0: ([3, 4, 4, 5], 3), 1: ([2, 2, 2, 7], 2)}
    rows, truths = [], []
    for example, (given, truth) in answers.items():
        for sample, answer in enumerate(given, 1):
            rows.append(row(said("x", answer), truth, example=example, sample=sample))
            truths.append(truth)
    figures = metrics.sampled_figures(rows, truths)
    assert figures == {
        "pass@1": pytest.approx((1 / 4 + 3 / 4) / 2),
        "pass@2": pytest.approx((1 / 2 + 1) / 2),
        "pass@4": 1.0,
        # of the six pairs of 3 4 4 5, three hold the 3, each in a tie; of 2 2 2 7, three are 2 2 and three are ties
        "maj@2": pytest.approx((3 / 2 / 6 + (3 + 3 / 2) / 6) / 2),
        "maj@4": 0.5,
    }
