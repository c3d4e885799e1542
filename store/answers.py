"""Answers beside an answer: the rest of its group, its example at other steps and in other runs; and an evaluation
example by example. Changes nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Integer, case, cast, func, select

from store.connection import Store, StoreError, reading
from store.rows import Span, StoredPrediction
from store.schema import Completion, Evaluation, Prediction
from store.traces import predictions_where

MOST_MEETINGS = 500


class Meeting(NamedTuple):
    """What a run said to one example at one step: completions of a group, or the predictions of an evaluation."""

    run_id: int
    step: int
    answers: int
    right: int
    reward: float | None
    """Mean."""
    best_id: int
    """Of its answers: the right one, else the first."""


class GreedyText(NamedTuple):
    """What was said to one example, with the little that parsing found."""

    example_id: int
    text: str
    think: Span | None
    wellformed: bool
    steps: int
    tokens: int | None


def prediction(store: Store, id: int) -> StoredPrediction:
    """Raises StoreError when it is gone."""
    found = predictions_where(store, Prediction.id == id)
    if not found:
        raise StoreError("This prediction is no longer in the database.")
    return found[0]


def run_of_evaluation(store: Store, evaluation_id: int) -> int | None:
    with reading(store) as connection:
        return connection.scalar(select(Evaluation.run_id).where(Evaluation.id == evaluation_id))


def predictions_to(store: Store, evaluation_id: int, example_ids: list[int]) -> list[StoredPrediction]:
    """The predictions of an evaluation for some examples, by example and sample."""
    return predictions_where(store, Prediction.evaluation_id == evaluation_id, Prediction.example_id.in_(example_ids))


def greedy_texts(store: Store, evaluation_id: int) -> list[GreedyText]:
    """The greedy answers of an evaluation, by example id: as many as `scores` has, in its order."""
    table = Prediction
    said = (table.example_id, table.text, table.think_start, table.think_end)
    statement = select(*said, table.wellformed, table.steps, table.tokens)
    statement = statement.where(table.evaluation_id == evaluation_id, table.sample == 0)
    with reading(store) as connection:
        rows = connection.execute(statement.order_by(Prediction.example_id)).all()
    return [
        GreedyText(example_id, text, _span(start, end), wellformed, steps, tokens)
        for example_id, text, start, end, wellformed, steps, tokens in rows
    ]


def _span(start: int | None, end: int | None) -> Span | None:
    return None if start is None or end is None else (start, end)


def count_predicted(
    store: Store, evaluation_id: int, *, correct: bool | None = None, wellformed: bool | None = None
) -> int:
    """Examples of an evaluation that have an answer of this kind."""
    conditions = _of_kind(evaluation_id, correct, wellformed)
    with reading(store) as connection:
        return connection.scalar(select(func.count(Prediction.example_id.distinct())).where(*conditions)) or 0


def predicted(
    store: Store,
    evaluation_id: int,
    *,
    correct: bool | None = None,
    wellformed: bool | None = None,
    limit: int,
    offset: int = 0,
) -> list[int]:
    """Ids of the examples that have an answer of this kind, in order."""
    conditions = _of_kind(evaluation_id, correct, wellformed)
    page = select(Prediction.example_id).where(*conditions).distinct().order_by(Prediction.example_id)
    with reading(store) as connection:
        return list(connection.scalars(page.limit(limit).offset(offset)))


def rank_of_example(
    store: Store,
    evaluation_id: int,
    example_id: int,
    *,
    correct: bool | None = None,
    wellformed: bool | None = None,
) -> int:
    """How many examples come before this one in `predicted`."""
    conditions = [*_of_kind(evaluation_id, correct, wellformed), Prediction.example_id < example_id]
    with reading(store) as connection:
        return connection.scalar(select(func.count(Prediction.example_id.distinct())).where(*conditions)) or 0


def meetings(store: Store, example_id: int) -> list[Meeting]:
    """Every step at which a run trained on an example, run after run; at most MOST_MEETINGS."""
    place = (Completion.run_id, Completion.step)
    statement = select(*place, *_counts(Completion)).where(Completion.example_id == example_id)
    with reading(store) as connection:
        rows = connection.execute(statement.group_by(*place).order_by(*place).limit(MOST_MEETINGS))
        return [Meeting(*row) for row in rows]


def predicted_meetings(store: Store, example_id: int) -> list[Meeting]:
    """Every step at which a run was evaluated on an example, run after run; at most MOST_MEETINGS."""
    place = (Evaluation.run_id, Evaluation.step)
    statement = select(*place, *_counts(Prediction)).join(Evaluation, Evaluation.id == Prediction.evaluation_id)
    with reading(store) as connection:
        found = statement.where(Prediction.example_id == example_id).group_by(*place).order_by(*place)
        return [Meeting(*row) for row in connection.execute(found.limit(MOST_MEETINGS))]


def _counts(table: type[Completion] | type[Prediction]) -> tuple[ColumnElement[Any], ...]:
    right = case((table.correct.is_(True), table.id))
    return (
        func.count(),
        func.count(right),
        func.avg(table.reward),
        cast(func.coalesce(func.min(right), func.min(table.id)), Integer),
    )


def _of_kind(evaluation_id: int, correct: bool | None, wellformed: bool | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Prediction.evaluation_id == evaluation_id]
    if correct is not None:
        conditions.append(Prediction.correct.is_(correct))
    if wellformed is not None:
        conditions.append(Prediction.wellformed.is_(wellformed))
    return conditions
