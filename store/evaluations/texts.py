"""Read the texts of runs' evaluations as columns, thousands of answers at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from store.db.connection import Store, reading
from store.db.rows import Span
from store.db.schema import Evaluation, Prediction

KINDS = ("probe", "val", "test")
"""Evaluations of an unmodified checkpoint with unmodified input; others do not show its style."""

Ints = NDArray[np.int64]


class PredictionTexts(NamedTuple):
    """Predictions of several runs, one entry each, sorted by run, step, evaluation, example and sample."""

    prediction_id: Ints
    run_id: Ints
    evaluation_id: Ints
    step: Ints
    example_id: Ints
    sample: Ints
    """0 is greedy."""
    correct: NDArray[np.float64]
    """1 right, 0 wrong, NaN if not judged."""
    tokens: NDArray[np.float64]
    """NaN if unknown."""
    text: list[str]
    think: list[Span | None]
    """The think body of a well-formed trace."""


def read_prediction_texts(store: Store, run_ids: Collection[int]) -> PredictionTexts:
    """Return these runs' predictions in evaluations of KINDS, including unfinished evaluations."""
    columns = (Prediction.id, Evaluation.run_id, Evaluation.id.label("evaluation_id"), Evaluation.step)
    place = (Evaluation.run_id, Evaluation.step, Evaluation.id, Prediction.example_id, Prediction.sample)
    facts = (Prediction.correct, Prediction.tokens, Prediction.text, Prediction.think_start, Prediction.think_end)
    statement = (
        select(*columns, Prediction.example_id, Prediction.sample, *facts)
        .join(Evaluation, Evaluation.id == Prediction.evaluation_id)
        .where(Evaluation.run_id.in_(run_ids), Evaluation.kind.in_(KINDS))
        .order_by(*place)
    )
    with reading(store) as connection:
        rows = connection.execute(statement).all()
    prediction_id, run_id, evaluation_id, step, example_id, sample = (
        np.array([row[:6] for row in rows], np.int64).reshape(-1, 6).T
    )
    return PredictionTexts(
        prediction_id,
        run_id,
        evaluation_id,
        step,
        example_id,
        sample,
        np.array([np.nan if row.correct is None else row.correct for row in rows], np.float64),
        np.array([row.tokens for row in rows], np.float64),
        [row.text for row in rows],
        [None if row.think_start is None else (row.think_start, row.think_end) for row in rows],
    )


def count_prediction_texts(store: Store, run_ids: Collection[int]) -> tuple[int, int]:
    """Return the number of predictions and their largest id: a cache key for `read_prediction_texts`."""
    statement = (
        select(func.count(), func.coalesce(func.max(Prediction.id), 0))
        .join(Evaluation, Evaluation.id == Prediction.evaluation_id)
        .where(Evaluation.run_id.in_(run_ids), Evaluation.kind.in_(KINDS))
    )
    with reading(store) as connection:
        number, last = connection.execute(statement).one()
    return number, last
