"""Read the predictions of an evaluation, an example or a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, Row, Select, and_, func, select

from store.db.connection import Store, StoreError, reading
from store.db.rows import Scores, Span, StoredPrediction
from store.db.schema import Evaluation, Example, ExampleImage, Prediction
from store.db.trace_columns import PAGE, example_columns, trace_values


class GreedyText(NamedTuple):
    """The greedy answer to one example, with the few fields that a list needs."""

    example_id: int
    text: str
    think: Span | None
    wellformed: bool
    reasoning_steps: int
    tokens: int | None


def list_predictions(store: Store, evaluation_id: int, limit: int = 50, offset: int = 0) -> list[StoredPrediction]:
    """Return predictions of an evaluation, sorted by example and sample."""
    statement = _predictions().where(Prediction.evaluation_id == evaluation_id)
    order = (Prediction.example_id, Prediction.sample)
    with reading(store) as connection:
        return [_prediction(row) for row in connection.execute(statement.order_by(*order).limit(limit).offset(offset))]


def predictions_where(store: Store, *conditions: ColumnElement[bool]) -> list[StoredPrediction]:
    """Return predictions that meet all conditions, sorted by evaluation, example and sample."""
    order = (Prediction.evaluation_id, Prediction.example_id, Prediction.sample)
    with reading(store) as connection:
        rows = connection.execute(_predictions().where(*conditions).order_by(*order))
        return [_prediction(row) for row in rows]


def list_predictions_of_example(
    store: Store, example_id: int, limit: int = 50, offset: int = 0
) -> list[tuple[int, StoredPrediction]]:
    """Return every prediction of an example with its run's id, sorted by run and step."""
    statement = _predictions().add_columns(Evaluation.run_id).where(Prediction.example_id == example_id)
    order = (Evaluation.run_id, Evaluation.step, Evaluation.id, Prediction.sample)
    predictions = []
    with reading(store) as connection:
        for row in connection.execute(statement.order_by(*order).limit(limit).offset(offset)):
            values = trace_values(row)
            predictions.append((values.pop("run_id"), StoredPrediction(**values)))
    return predictions


def list_greedy_answers(store: Store, run_id: int, example_id: int, kinds: Iterable[str]) -> list[StoredPrediction]:
    """Return a run's greedy answers to one example in evaluations of these kinds, sorted by kind and step."""
    statement = _predictions().where(
        Evaluation.run_id == run_id,
        Evaluation.kind.in_(list(kinds)),
        Prediction.example_id == example_id,
        Prediction.sample == 0,
    )
    with reading(store) as connection:
        rows = connection.execute(statement.order_by(Evaluation.kind, Evaluation.step, Evaluation.id))
        return [_prediction(row) for row in rows]


def iter_predictions(store: Store, run_id: int) -> Iterator[StoredPrediction]:
    """Yield all predictions of a run by evaluation and step, read in pages."""
    order = select(Evaluation.id).where(Evaluation.run_id == run_id).order_by(Evaluation.step, Evaluation.id)
    with reading(store) as connection:
        evaluations = list(connection.scalars(order))
    for evaluation_id in evaluations:
        yield from iter_predictions_of(store, evaluation_id)


def iter_predictions_of(store: Store, evaluation_id: int) -> Iterator[StoredPrediction]:
    """Yield all predictions of an evaluation by example and sample, read in pages."""
    offset = 0
    while part := list_predictions(store, evaluation_id, PAGE, offset):
        yield from part
        offset += PAGE


def read_scores(store: Store, evaluation_id: int) -> Scores:
    """Return the greedy predictions of an evaluation as arrays, by example id."""
    first_image = and_(ExampleImage.example_id == Example.id, ExampleImage.position == 0)
    columns = (Prediction.example_id, Prediction.id, ExampleImage.sha256, Example.answer)
    statement = (
        select(*columns, Prediction.answer.label("said"), Prediction.correct, Prediction.similarity)
        .join(Example, Example.id == Prediction.example_id)
        .outerjoin(ExampleImage, first_image)
        .where(Prediction.evaluation_id == evaluation_id, Prediction.sample == 0)
        .order_by(Prediction.example_id)
    )
    with reading(store) as connection:
        rows = connection.execute(statement).all()
    example_id, prediction_id, image, truth, answer, correct, similarity = zip(*rows, strict=True) if rows else [()] * 7
    return Scores(
        evaluation_id,
        np.array(example_id, np.int64),
        np.array(prediction_id, np.int64),
        np.array([sha256 or str(id) for sha256, id in zip(image, example_id, strict=True)], np.str_),
        np.array(truth, np.float64),
        np.array(answer, np.float64),
        np.array(correct, np.float64),
        np.array(similarity, np.float64),
    )


def get_prediction(store: Store, id: int) -> StoredPrediction:
    """Return a prediction. Raises StoreError if it does not exist."""
    predictions = predictions_where(store, Prediction.id == id)
    if not predictions:
        raise StoreError("This prediction is no longer in the database.")
    return predictions[0]


def list_predictions_to(store: Store, evaluation_id: int, example_ids: list[int]) -> list[StoredPrediction]:
    """Return the predictions of an evaluation for some examples, by example and sample."""
    return predictions_where(store, Prediction.evaluation_id == evaluation_id, Prediction.example_id.in_(example_ids))


def list_greedy_texts(store: Store, evaluation_id: int) -> list[GreedyText]:
    """Return the greedy answers of an evaluation by example id, with the length and order of `read_scores`."""
    table = Prediction
    text_columns = (table.example_id, table.text, table.think_start, table.think_end)
    statement = select(*text_columns, table.wellformed, table.reasoning_steps, table.tokens)
    statement = statement.where(table.evaluation_id == evaluation_id, table.sample == 0)
    with reading(store) as connection:
        rows = connection.execute(statement.order_by(Prediction.example_id)).all()
    return [
        GreedyText(example_id, text, _span(start, end), wellformed, reasoning_steps, tokens)
        for example_id, text, start, end, wellformed, reasoning_steps, tokens in rows
    ]


def count_predicted(
    store: Store, evaluation_id: int, *, correct: bool | None = None, wellformed: bool | None = None
) -> int:
    """Return the number of an evaluation's examples with such an answer."""
    conditions = _of_kind(evaluation_id, correct, wellformed)
    with reading(store) as connection:
        return connection.scalar(select(func.count(Prediction.example_id.distinct())).where(*conditions)) or 0


def list_predicted(
    store: Store,
    evaluation_id: int,
    *,
    correct: bool | None = None,
    wellformed: bool | None = None,
    limit: int,
    offset: int = 0,
) -> list[int]:
    """Return the ids of an evaluation's examples with such an answer, in order."""
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
    """Return the index of this example in `list_predicted`."""
    conditions = [*_of_kind(evaluation_id, correct, wellformed), Prediction.example_id < example_id]
    with reading(store) as connection:
        return connection.scalar(select(func.count(Prediction.example_id.distinct())).where(*conditions)) or 0


def _predictions() -> Select[Any]:
    return (
        select(Prediction.__table__, *example_columns(), Evaluation.step, Evaluation.benchmark, Evaluation.kind)
        .join(Example, Example.id == Prediction.example_id)
        .join(Evaluation, Evaluation.id == Prediction.evaluation_id)
    )


def _prediction(row: Row[Any]) -> StoredPrediction:
    return StoredPrediction(**trace_values(row))


def _span(start: int | None, end: int | None) -> Span | None:
    return None if start is None or end is None else (start, end)


def _of_kind(evaluation_id: int, correct: bool | None, wellformed: bool | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Prediction.evaluation_id == evaluation_id]
    if correct is not None:
        conditions.append(Prediction.correct.is_(correct))
    if wellformed is not None:
        conditions.append(Prediction.wellformed.is_(wellformed))
    return conditions
