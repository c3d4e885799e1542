"""Find where else an example was answered: at other steps and in other runs."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Integer, case, cast, func, select

from store.db.connection import Store, reading
from store.db.schema import Completion, Evaluation, Prediction

MOST_MEETINGS = 500


class Meeting(NamedTuple):
    """A run's answers to one example at one step: a group of completions, or the predictions of an evaluation."""

    run_id: int
    step: int
    answers: int
    right: int
    reward: float | None
    """Mean reward."""
    best_id: int
    """Id of a correct answer if there is one, or else of the first."""


def list_meetings(store: Store, example_id: int) -> list[Meeting]:
    """Return all steps at which runs trained on an example, by run; at most MOST_MEETINGS."""
    place = (Completion.run_id, Completion.step)
    statement = select(*place, *_counts(Completion)).where(Completion.example_id == example_id)
    with reading(store) as connection:
        rows = connection.execute(statement.group_by(*place).order_by(*place).limit(MOST_MEETINGS))
        return [Meeting(*row) for row in rows]


def list_predicted_meetings(store: Store, example_id: int) -> list[Meeting]:
    """Return all steps at which runs were evaluated on an example, by run; at most MOST_MEETINGS."""
    place = (Evaluation.run_id, Evaluation.step)
    statement = select(*place, *_counts(Prediction)).join(Evaluation, Evaluation.id == Prediction.evaluation_id)
    with reading(store) as connection:
        grouped = statement.where(Prediction.example_id == example_id).group_by(*place).order_by(*place)
        return [Meeting(*row) for row in connection.execute(grouped.limit(MOST_MEETINGS))]


def _counts(table: type[Completion] | type[Prediction]) -> tuple[ColumnElement[Any], ...]:
    right = case((table.correct.is_(True), table.id))
    return (
        func.count(),
        func.count(right),
        func.avg(table.reward),
        cast(func.coalesce(func.min(right), func.min(table.id)), Integer),
    )
