"""Compare two to four runs or checkpoints on the questions that all of them answered: do styles differ, and where?

Pure functions of texts and scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.drift.words import words
from app.shared import format, status
from store.db.rows import EvaluationRow, RunRow, Scores
from store.evaluations.predictions import GreedyText
from store.trace import Form, form_of
from trainer.spec import statistics
from trainer.spec.statistics import Estimate
from trainer.spec.wording import style_text

Floats = npt.NDArray[np.float64]
CLEAR = 0.05
"""Minimum difference in similarity (cosine) that counts as drift."""
METHOD_ORDER = ("sft", "grpo", "none")
"""Default order of columns, by method."""
ORDERS = ("drift", "second", "first", "wrong", "similar", "random")
"""Orders of the shared examples; `first` and `second` mean that only that side is right."""


class Side(NamedTuple):
    """A column: a run, and the evaluation of one of its checkpoints."""

    run: RunRow
    evaluation: EvaluationRow


def form_of_side(side: Side) -> Form:
    """Return the form by which a side's texts are parsed."""
    return form_of(side.evaluation.conditions.get("style", side.run.style), side.run.grammar)


class SideAnswers(NamedTuple):
    """The greedy answers of one side, by example id."""

    scores: Scores
    texts: Sequence[GreedyText]


class Shared(NamedTuple):
    """The examples that all sides answered, by id; arrays of shape (sides, examples), NaN if unknown."""

    example_id: npt.NDArray[np.int64]
    image: npt.NDArray[np.str_]
    prediction_id: npt.NDArray[np.int64]
    correct: Floats
    similarity: Floats
    """Similarity of the thinking to the reference."""
    wellformed: Floats
    reasoning_steps: Floats
    tokens: Floats
    texts: tuple[tuple[str, ...], ...]
    """Thinking of each side; for a malformed answer, its whole text."""
    answered: tuple[int, ...]
    """Number of examples that each side answered, shared or not."""


class Standing(NamedTuple):
    """Results of one side on the shared examples; means, except for the estimates."""

    accuracy: Estimate | None
    """None if the answers were not judged."""
    similarity: Estimate | None
    wellformed: float
    reasoning_steps: float
    tokens: float


class Verdict(NamedTuple):
    """Results of each side, and differences of the second side minus the first."""

    n: int
    standings: tuple[Standing, ...]
    accuracy: Estimate | None
    similarity: Estimate | None


def names(sides: Sequence[Side]) -> list[str]:
    """Return the shortest names that distinguish the sides."""
    methods = [status.METHODS.get(side.run.method, side.run.method) for side in sides]
    methods = ["base" if side.run.method == "none" else name for name, side in zip(methods, sides, strict=True)]
    steps = [f"step {side.evaluation.step}" for side in sides]
    ranks = [f" r{side.run.lora_rank}" if side.run.lora_rank else "" for side in sides]
    attempts = [
        methods,
        [f"{method} {side.run.style}" for method, side in zip(methods, sides, strict=True)],
        [method + rank for method, rank in zip(methods, ranks, strict=True)],
        [f"{method} {step}" for method, step in zip(methods, steps, strict=True)],
        [side.run.name for side in sides],
        [f"{side.run.name} {step}" for side, step in zip(sides, steps, strict=True)],
    ]
    last = [f"{side.run.name} {side.run.uid} {side.evaluation.id}" for side in sides]
    return next((attempt for attempt in attempts if len(set(attempt)) == len(sides)), last)


def share(sides: Sequence[SideAnswers]) -> Shared:
    """Return the examples that all sides answered; `sides` is not empty."""
    example_id = reduce(np.intersect1d, [side.scores.example_id for side in sides])
    places = [np.searchsorted(side.scores.example_id, example_id) for side in sides]
    picked = [[side.texts[i] for i in place] for side, place in zip(sides, places, strict=True)]

    def stacked(name: str) -> Floats:
        return np.stack([getattr(side.scores, name)[place] for side, place in zip(sides, places, strict=True)])

    def counted(name: str) -> Floats:
        return np.array([[getattr(text, name) for text in texts] for texts in picked], dtype=float)

    return Shared(
        example_id,
        sides[0].scores.image[places[0]],
        np.stack([side.scores.prediction_id[place] for side, place in zip(sides, places, strict=True)]),
        stacked("correct"),
        stacked("similarity"),
        counted("wellformed"),
        counted("reasoning_steps"),
        counted("tokens"),
        tuple(tuple(style_text(one.text, one.think) for one in texts) for texts in picked),
        tuple(len(side.texts) for side in sides),
    )


def verdict(shared: Shared) -> Verdict | None:
    """Compare the sides; None without shared examples. Intervals are paired bootstraps over images, or Wilson's."""
    n = len(shared.example_id)
    if not n or len(shared.correct) < 2:
        return None
    standings = tuple(_standing(shared, i) for i in range(len(shared.correct)))
    return Verdict(n, standings, _difference(shared, shared.correct), _difference(shared, shared.similarity))


def _difference(shared: Shared, values: Floats) -> Estimate | None:
    """Return the mean of the second side minus the first where both are known; None without such examples."""
    is_known = ~np.isnan(values[:2]).any(axis=0)
    first, second = values[:2, is_known]
    return statistics.difference(second[None], first[None], shared.image[is_known].tolist()) if is_known.any() else None


def _standing(shared: Shared, side: int) -> Standing:
    judged = shared.correct[side][~np.isnan(shared.correct[side])]
    right, n, has_similarity = int(judged.sum()), len(judged), ~np.isnan(shared.similarity[side])
    similarity = shared.similarity[side, has_similarity]
    tokens = shared.tokens[side]
    return Standing(
        Estimate(right / n, *statistics.wilson(right, n)) if n else None,
        statistics.mean(similarity[None], shared.image[has_similarity].tolist()) if len(similarity) else None,
        float(shared.wellformed[side].mean()),
        float(shared.reasoning_steps[side].mean()),
        float(np.nanmean(tokens)) if np.isfinite(tokens).any() else float("nan"),
    )


def sentence(verdict: Verdict, first: str, second: str, *, has_references: bool = True) -> str:
    """Return sentences on whether the two drifted apart, and on their difference in accuracy."""
    style = _style(verdict.similarity, first, second)
    if verdict.similarity is None and not has_references:
        style = "Similarity to the reference is unknown: no question has reference reasoning."
    return f"{style} {_right(verdict.accuracy, first, second)}"


def _right(right: Estimate | None, first: str, second: str) -> str:
    if right is None:
        return "Their accuracy is unknown: the answers were not judged."
    gain = f"{100 * right.value:+.1f} points, {100 * right.low:+.1f} to {100 * right.high:+.1f}"
    if right.low > 0 or right.high < 0:
        better = second if right.value > 0 else first
        return f"{better} is right more often ({second} minus {first}: {gain})."
    return f"Their accuracies do not differ significantly ({second} minus {first}: {gain})."


def _style(apart: Estimate | None, first: str, second: str) -> str:
    if apart is None:
        return f"Whether {first} and {second} drifted apart is unknown: their thinking is not embedded."
    value, low, high = apart
    interval = f"{second} minus {first}: {low:+.2f} to {high:+.2f}"
    if low > CLEAR or high < -CLEAR:
        far, near = (first, second) if value > 0 else (second, first)
        return (
            f"{first} and {second} drifted apart: the thinking of {far} is {abs(value):.2f} less similar to the "
            f"reference than that of {near} ({interval})."
        )
    if low > -CLEAR and high < CLEAR:
        return f"{first} and {second} are equally close to the reference ({interval}, within ±{CLEAR})."
    return f"These examples do not show whether {first} and {second} drifted apart ({interval})."


def order(shared: Shared, gap: Floats, kind: str, *, keep: npt.NDArray[np.bool_] | None = None) -> list[int]:
    """Return ids of the shared examples in one of ORDERS, by `gap`; `keep` selects some of them.

    All orders but `random` put the largest gap first (`similar` the smallest). `random` is the same each time.
    """
    n = len(shared.example_id)
    if kind == "random":
        places = np.random.default_rng(0).permutation(n)
    else:
        places = np.argsort(gap if kind == "similar" else -gap, kind="stable")
    mask = np.ones(n, dtype=bool) if keep is None else keep
    right = shared.correct[:2] > 0
    if kind in ("first", "second"):
        winner = int(kind == "second")
        mask = mask & right[winner] & (shared.correct[1 - winner] == 0)
    elif kind == "wrong":
        mask = mask & (shared.correct[:2] == 0).all(axis=0)
    ids: list[int] = shared.example_id[places[mask[places]]].tolist()
    return ids


def answer_gaps(shared: Shared) -> Floats:
    """Return the distance of the first two sides on each example: the difference of their similarities.

    If it is unknown for every example, return one minus the Jaccard index of their words.
    """
    if has_similarity(shared):
        return np.abs(np.subtract(*np.nan_to_num(shared.similarity[:2])))
    return np.array([1 - _overlap(*pair) for pair in zip(*shared.texts[:2], strict=True)])


def has_similarity(shared: Shared) -> bool:
    return bool(np.isfinite(shared.similarity[:2]).any(axis=1).all())


def _overlap(first: str, second: str) -> float:
    first_words, second_words = set(words(first)), set(words(second))
    return len(first_words & second_words) / len(first_words | second_words) if first_words or second_words else 1.0


def unshared_note(shared: Shared, labels: Sequence[str]) -> str | None:
    """Return a sentence on examples that not all sides answered, or None."""
    n = len(shared.example_id)
    if all(count == n for count in shared.answered):
        return None
    counts = ", ".join(f"{name} answered {format.count(m)}" for name, m in zip(labels, shared.answered, strict=True))
    return f"Only the {format.count(n)} questions that all of them answered are compared ({counts})."
