"""What was said: completions in their groups, predictions, and the examples that they answer. Changes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Row, Select, and_, func, select, tuple_

from store.connection import Store, StoreError, reading
from store.rows import GroupRow, Scores, StepBounds, StoredCompletion, StoredExample, StoredPrediction
from store.schema import Completion, Evaluation, Example, ExampleImage, Prediction
from store.values import clean

PAGE = 500
# The index leads to the first two; the generation tells only those apart that older recorders gave one number.
_WITHIN_STEP = (Completion.group, Completion.index, Completion.generation)
_SPANS = ("think_start", "think_end", "answer_start", "answer_end")


def step_bounds(store: Store, run_id: int) -> StepBounds | None:
    """First and last step that have completions, and how many steps have; None without any."""
    own = select(func.min(Completion.step).label("step")).where(Completion.run_id == run_id)
    steps = own.cte("steps", recursive=True)
    # From step to step by the index: a long run's half a million completions take ten times as long to count.
    following = own.where(Completion.step > steps.c.step).scalar_subquery()
    steps = steps.union_all(select(following).where(steps.c.step.is_not(None)))
    statement = select(func.min(steps.c.step), func.max(steps.c.step), func.count(steps.c.step))
    with reading(store) as connection:
        row = connection.execute(statement).one()
    return StepBounds(*row) if row[2] else None


def groups(store: Store, run_id: int, step: int) -> list[GroupRow]:
    """The groups of one step; completions without a group number are put together by example."""
    statement = _completions(run_id).where(Completion.step == step)
    with reading(store) as connection:
        rows = connection.execute(statement.order_by(Completion.generation, *_WITHIN_STEP, Completion.id)).all()
    gathered: dict[tuple[int, int | None, int | None], list[StoredCompletion]] = defaultdict(list)
    for row in rows:
        gathered[row.generation, row.group, row.example_id].append(_completion(row))
    known = examples(store, {example_id for *_, example_id in gathered if example_id is not None})
    return [
        GroupRow(step, group, known.get(example_id) if example_id is not None else None, members)
        for (_, group, example_id), members in gathered.items()
    ]


def completion(store: Store, id: int) -> StoredCompletion:
    with reading(store) as connection:
        row = connection.execute(_completions().where(Completion.id == id)).first()
    if row is None:
        raise StoreError("This completion is no longer in the database.")
    return _completion(row)


def completions_by_id(store: Store, ids: Sequence[int]) -> list[StoredCompletion]:
    """Completions in the order of `ids`; those that are gone are left out."""
    found: dict[int, StoredCompletion] = {}
    with reading(store) as connection:
        for start in range(0, len(ids), PAGE):
            rows = connection.execute(_completions().where(Completion.id.in_(ids[start : start + PAGE])))
            found.update((row.id, _completion(row)) for row in rows)
    return [found[id] for id in ids if id in found]


def completions(
    store: Store,
    run_id: int | None,
    *,
    steps: tuple[int, int] | None = None,
    example_id: int | None = None,
    wellformed: bool | None = None,
    correct: bool | None = None,
    contains: str | None = None,
    limit: int = 50,
    offset: int = 0,
) -> list[StoredCompletion]:
    """Completions by step, group and index: of one run, or of one example in all runs (`run_id` None).

    `steps` is a range, both ends included; `contains` is searched in the text, without regard to case.
    """
    statement = _completions(run_id)
    if steps is not None:
        statement = statement.where(Completion.step.between(*steps))
    if example_id is not None:
        statement = statement.where(Completion.example_id == example_id)
    if wellformed is not None:
        statement = statement.where(Completion.wellformed.is_(wellformed))
    if correct is not None:
        statement = statement.where(Completion.correct.is_(correct))
    if contains:
        statement = statement.where(Completion.text.icontains(clean(contains), autoescape=True))
    order = (Completion.run_id, Completion.step, *_WITHIN_STEP, Completion.id)
    with reading(store) as connection:
        rows = connection.execute(statement.order_by(*order).limit(limit).offset(offset))
        return [_completion(row) for row in rows]


def texts_of_steps(
    store: Store, run_id: int, steps: Sequence[int], limit: int
) -> dict[int, list[tuple[str, dict[str, Any] | None]]]:
    """The first texts of each step with the `meta` of the examples that they answer; quick, for there is no more."""
    place = func.row_number().over(partition_by=Completion.step, order_by=_WITHIN_STEP)
    ranked = select(Completion.id, place.label("place")).where(Completion.run_id == run_id, Completion.step.in_(steps))
    first = ranked.subquery()
    statement = (
        select(Completion.step, Completion.text, Example.meta)
        .join(first, first.c.id == Completion.id)
        .outerjoin(Example, Example.id == Completion.example_id)
        .where(first.c.place <= limit)
        .order_by(Completion.step, first.c.place)
    )
    found: dict[int, list[tuple[str, dict[str, Any] | None]]] = {step: [] for step in steps}
    with reading(store) as connection:
        for step, text, meta in connection.execute(statement):
            found[step].append((text, meta))
    return found


def iter_completions(store: Store, run_id: int) -> Iterator[StoredCompletion]:
    """All completions of a run by step, a page at a time: no transaction stays open, and memory stays small."""
    place = (Completion.step, Completion.id)
    statement = _completions(run_id).order_by(*place).limit(PAGE)
    after: tuple[int, int] | None = None
    while True:
        part = statement if after is None else statement.where(tuple_(*place) > after)
        with reading(store) as connection:
            rows = connection.execute(part).all()
        yield from map(_completion, rows)
        if len(rows) < PAGE:
            return
        after = (rows[-1].step, rows[-1].id)


def predictions(store: Store, evaluation_id: int, limit: int = 50, offset: int = 0) -> list[StoredPrediction]:
    """Predictions of an evaluation, by example and sample."""
    statement = _predictions().where(Prediction.evaluation_id == evaluation_id)
    order = (Prediction.example_id, Prediction.sample)
    with reading(store) as connection:
        return [_prediction(row) for row in connection.execute(statement.order_by(*order).limit(limit).offset(offset))]


def predictions_where(store: Store, *conditions: ColumnElement[bool]) -> list[StoredPrediction]:
    """Predictions that meet all conditions, by evaluation, example and sample."""
    order = (Prediction.evaluation_id, Prediction.example_id, Prediction.sample)
    with reading(store) as connection:
        rows = connection.execute(_predictions().where(*conditions).order_by(*order))
        return [_prediction(row) for row in rows]


def predictions_of(
    store: Store, example_id: int, limit: int = 50, offset: int = 0
) -> list[tuple[int, StoredPrediction]]:
    """Every prediction of an example with the id of its run, run after run by step."""
    statement = _predictions().add_columns(Evaluation.run_id).where(Prediction.example_id == example_id)
    order = (Evaluation.run_id, Evaluation.step, Evaluation.id, Prediction.sample)
    found = []
    with reading(store) as connection:
        for row in connection.execute(statement.order_by(*order).limit(limit).offset(offset)):
            values = _values(row)
            found.append((values.pop("run_id"), StoredPrediction(**values)))
    return found


def greedy_answers(store: Store, run_id: int, example_id: int, kinds: Iterable[str]) -> list[StoredPrediction]:
    """The greedy answers of a run to one example in evaluations of these kinds, by kind and step."""
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
    """All predictions of a run, evaluation after evaluation by step, a page at a time."""
    order = select(Evaluation.id).where(Evaluation.run_id == run_id).order_by(Evaluation.step, Evaluation.id)
    with reading(store) as connection:
        evaluations = list(connection.scalars(order))
    for evaluation_id in evaluations:
        yield from iter_predictions_of(store, evaluation_id)


def iter_predictions_of(store: Store, evaluation_id: int) -> Iterator[StoredPrediction]:
    """All predictions of an evaluation, by example and sample, a page at a time."""
    offset = 0
    while part := predictions(store, evaluation_id, PAGE, offset):
        yield from part
        offset += PAGE


def scores(store: Store, evaluation_id: int) -> Scores:
    """The greedy predictions of an evaluation as arrays, by example id."""
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
    example_id, prediction_id, image, truth, said, correct, similarity = zip(*rows, strict=True) if rows else [()] * 7
    return Scores(
        evaluation_id,
        np.array(example_id, np.int64),
        np.array(prediction_id, np.int64),
        np.array([sha256 or str(id) for sha256, id in zip(image, example_id, strict=True)], np.str_),
        np.array(truth, np.float64),
        np.array(said, np.float64),
        np.array(correct, np.float64),
        np.array(similarity, np.float64),
    )


def examples(store: Store, ids: Iterable[int]) -> dict[int, StoredExample]:
    """Examples by id, with the hashes of their images in order; unknown ids are left out."""
    wanted = sorted(set(ids))
    images: dict[int, list[str]] = defaultdict(list)
    rows: list[Row[Any]] = []
    with reading(store) as connection:
        for start in range(0, len(wanted), PAGE):
            part = wanted[start : start + PAGE]
            rows += connection.execute(select(Example.__table__).where(Example.id.in_(part)))
            links = select(ExampleImage.example_id, ExampleImage.sha256).where(ExampleImage.example_id.in_(part))
            for example_id, sha256 in connection.execute(links.order_by(ExampleImage.position)):
                images[example_id].append(sha256)
    return {row.id: StoredExample(**row._mapping, images=tuple(images[row.id])) for row in rows}


def _completions(run_id: int | None = None) -> Select[Any]:
    statement = select(Completion.__table__, *_example_columns())
    statement = statement.outerjoin(Example, Example.id == Completion.example_id)
    return statement if run_id is None else statement.where(Completion.run_id == run_id)


def _predictions() -> Select[Any]:
    return (
        select(Prediction.__table__, *_example_columns(), Evaluation.step, Evaluation.benchmark, Evaluation.kind)
        .join(Example, Example.id == Prediction.example_id)
        .join(Evaluation, Evaluation.id == Prediction.evaluation_id)
    )


def _example_columns() -> tuple[Any, ...]:
    name = Example.dataset + "/" + Example.split + "/" + Example.key
    return name.label("example"), Example.answer.label("truth")


def _completion(row: Row[Any]) -> StoredCompletion:
    return StoredCompletion(**_values(row))


def _prediction(row: Row[Any]) -> StoredPrediction:
    return StoredPrediction(**_values(row))


def _values(row: Row[Any]) -> dict[str, Any]:
    values = dict(row._mapping)
    think_start, think_end, answer_start, answer_end = (values.pop(name) for name in _SPANS)
    values["think"] = None if think_start is None else (think_start, think_end)
    values["answer_span"] = None if answer_start is None else (answer_start, answer_end)
    return values
