"""Read the examples that a run answers greedily at each of its evaluations."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Integer, cast, func, select

from store.db.connection import Store, reading
from store.db.rows import StoredPrediction
from store.db.schema import Evaluation, Prediction
from store.evaluations.predictions import list_greedy_answers

KINDS = ("probe", "val")


class PanelExample(NamedTuple):
    """An example with its numbers of greedy answers, judged answers and right answers."""

    example_id: int
    answers: int
    judged: int
    right: int


def panel(store: Store, run_id: int) -> list[PanelExample]:
    """Return the examples that occur in several probes of a run, or in several validations if it has no probes."""
    right = func.sum(cast(Prediction.correct, Integer))
    for kind in KINDS:
        statement = (
            select(Prediction.example_id, func.count(), func.count(Prediction.correct), func.coalesce(right, 0))
            .join(Evaluation, Evaluation.id == Prediction.evaluation_id)
            .where(Evaluation.run_id == run_id, Evaluation.kind == kind, Prediction.sample == 0)
            .group_by(Prediction.example_id)
            .having(func.count() > 1)
            .order_by(Prediction.example_id)
        )
        with reading(store) as connection:
            rows = connection.execute(statement).all()
        if rows:
            return [PanelExample(*row) for row in rows]
    return []


def panel_answers(store: Store, run_id: int, example_id: int) -> list[StoredPrediction]:
    """Return a run's greedy answers to one example, one per step; probes take precedence over validations."""
    by_step: dict[int, StoredPrediction] = {}
    for prediction in list_greedy_answers(store, run_id, example_id, KINDS):
        by_step.setdefault(prediction.step, prediction)
    return [by_step[step] for step in sorted(by_step)]
