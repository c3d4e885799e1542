"""Similarity of answers to other texts over training. Pure functions of arrays.

Similarities are cosines of unit vectors; NaN if one of the texts is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.db.rows import EvaluationRow
from store.embeddings import Vectors
from store.evaluations.texts import Ints, PredictionTexts
from trainer.spec import similarity
from trainer.spec.statistics import wilson

Floats = NDArray[np.float64]
LOW, HIGH = 10, 90
"""Percentiles that bound the band."""


class Drift(NamedTuple):
    """Answers of runs in an encoder's space; texts without an embedding have vectors of NaN."""

    answers: PredictionTexts
    texts: list[str]
    """The distinct texts of all answers."""
    text_index: Ints
    """Index in `texts` of each answer's text."""
    vectors: Vectors
    """Vectors of `texts`: (texts, dimension)."""
    null: Vectors
    """Vector of the word that replaces a malformed trace in comparisons with a reference: (dimension,)."""
    example_ids: Ints
    """Ids of the answered examples: (examples,)."""
    example: Ints
    """Index in `example_ids` of each answer's example."""
    references: Vectors
    """Vectors of the references: (examples, dimension)."""
    seconds: Vectors
    """Vectors of the second annotator's references: (examples, dimension)."""

    @property
    def wellformed(self) -> NDArray[np.bool_]:
        return np.array([span is not None for span in self.answers.think], np.bool_)

    @property
    def embedded(self) -> NDArray[np.bool_]:
        """Return which answers have a vector."""
        return ~np.isnan(self.vectors[:, 0])[self.text_index]


class SimilarityCurve(NamedTuple):
    """Mean, spread (or interval) and number of examples at each step; all of one length."""

    step: Floats
    mean: Floats
    low: Floats
    high: Floats
    n: Ints


def checkpoints(evaluations: Sequence[EvaluationRow], kind: str, benchmark: str) -> list[int]:
    """Return the latest finished evaluation of this kind and benchmark for each step, by step."""
    by_step = {
        e.step: e.id
        for e in sorted(evaluations, key=lambda each: each.id)
        if e.kind == kind and e.benchmark == benchmark and e.ended_at is not None
    }
    return [by_step[step] for step in sorted(by_step)]


def rows_of(drift: Drift, evaluation_ids: Sequence[int]) -> Ints:
    """Return the indices of the greedy answers in these evaluations."""
    return np.flatnonzero(np.isin(drift.answers.evaluation_id, evaluation_ids) & (drift.answers.sample == 0))


def to_reference(drift: Drift, rows: Ints) -> Floats:
    """Return each answer's similarity to its example's reference; malformed answers count as NULL, as in the tables.

    See `trainer.spec.similarity.compared_text`.
    """
    vectors = np.where(drift.wellformed[rows, None], drift.vectors[drift.text_index[rows]], drift.null)
    return _cosines(vectors, drift.references[drift.example[rows]])


def to_answers(drift: Drift, rows: Ints, others: Ints) -> Floats:
    """Return each answer's similarity to the one in `others` for the same example; NaN if there is none.

    This compares the texts as they are, even malformed ones, unlike the similarity to the reference.
    """
    partner = np.full(len(drift.references), -1)
    partner[drift.example[others]] = others
    other = partner[drift.example[rows]]
    cosines = _cosines(drift.vectors[drift.text_index[rows]], drift.vectors[drift.text_index[other]])
    return np.where(other >= 0, cosines, np.nan)


def _cosines(first: Vectors, second: Vectors) -> Floats:
    return np.einsum("ij,ij->i", first, second).astype(np.float64)


def spread(step: Ints, value: Floats) -> SimilarityCurve:
    """Return the mean and the percentiles LOW and HIGH of the values at each step, without NaN and empty steps."""
    is_known = np.isfinite(value)
    steps = np.unique(step[is_known])
    parts = [value[is_known & (step == each)] for each in steps]
    low, high = np.array([np.percentile(part, (LOW, HIGH)) for part in parts]).reshape(-1, 2).T
    means = np.array([part.mean() for part in parts])
    return SimilarityCurve(steps.astype(float), means, low, high, np.array([len(part) for part in parts], np.int64))


def accuracy(step: Ints, correct: Floats) -> SimilarityCurve:
    """Return the share of right answers among judged ones at each step, with 95 % Wilson interval."""
    is_judged = np.isfinite(correct)
    step, correct = step[is_judged], correct[is_judged]
    steps = np.unique(step)
    right = np.array([correct[step == each].sum() for each in steps], np.int64)
    n = np.array([(step == each).sum() for each in steps], np.int64)
    low, high = np.array([wilson(int(a), int(b)) for a, b in zip(right, n, strict=True)]).reshape(-1, 2).T
    return SimilarityCurve(steps.astype(float), right / n, low, high, n)


def floor(references: Vectors) -> float | None:
    """Return the mean similarity between references of different examples, as in evaluations; None below two."""
    estimate = similarity.floor(references[np.isfinite(references[:, 0])])
    return estimate[0] if estimate else None


def ceiling(references: Vectors, seconds: Vectors) -> float | None:
    """Return the mean similarity of two annotators' references, as in evaluations; None if a second one is missing."""
    rows = np.flatnonzero(np.isfinite(references[:, 0]))
    rows = rows[similarity.ceiling_examples(len(rows))]
    cosines = _cosines(references[rows], seconds[rows])
    return float(cosines.mean()) if len(cosines) and np.isfinite(cosines).all() else None
