"""Read completions: by group, by step and by run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row, Select, func, select, tuple_

from store.db.connection import Store, StoreError, reading
from store.db.rows import GroupRow, StepBounds, StoredCompletion
from store.db.schema import Completion, Example
from store.db.trace_columns import PAGE, WITHIN_STEP, example_columns, trace_values
from store.db.values import clean
from store.examples import get_examples


def get_step_bounds(store: Store, run_id: int) -> StepBounds | None:
    """Return the first and last step with completions, and the number of such steps; None without any."""
    first_step = select(func.min(Completion.step).label("step")).where(Completion.run_id == run_id)
    steps = first_step.cte("steps", recursive=True)
    # Skip from step to step in the index: counting half a million completions would take ten times as long.
    following = first_step.where(Completion.step > steps.c.step).scalar_subquery()
    steps = steps.union_all(select(following).where(steps.c.step.is_not(None)))
    statement = select(func.min(steps.c.step), func.max(steps.c.step), func.count(steps.c.step))
    with reading(store) as connection:
        row = connection.execute(statement).one()
    return StepBounds(*row) if row[2] else None


def list_groups(store: Store, run_id: int, step: int) -> list[GroupRow]:
    """Return the groups of one step; completions without a group number are grouped by example."""
    statement = _completions(run_id).where(Completion.step == step)
    with reading(store) as connection:
        rows = connection.execute(statement.order_by(Completion.generation, *WITHIN_STEP, Completion.id)).all()
    gathered: dict[tuple[int, int | None, int | None], list[StoredCompletion]] = defaultdict(list)
    for row in rows:
        gathered[row.generation, row.group, row.example_id].append(_completion(row))
    examples = get_examples(store, {example_id for *_, example_id in gathered if example_id is not None})
    return [
        GroupRow(step, group, examples.get(example_id) if example_id is not None else None, members)
        for (_, group, example_id), members in gathered.items()
    ]


def get_completion(store: Store, id: int) -> StoredCompletion:
    with reading(store) as connection:
        row = connection.execute(_completions().where(Completion.id == id)).first()
    if row is None:
        raise StoreError("This completion is no longer in the database.")
    return _completion(row)


def get_completions(store: Store, ids: Sequence[int]) -> list[StoredCompletion]:
    """Return completions in the order of `ids`; missing ones are left out."""
    by_id: dict[int, StoredCompletion] = {}
    with reading(store) as connection:
        for start in range(0, len(ids), PAGE):
            rows = connection.execute(_completions().where(Completion.id.in_(ids[start : start + PAGE])))
            by_id.update((row.id, _completion(row)) for row in rows)
    return [by_id[id] for id in ids if id in by_id]


def list_completions(
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
    """Return completions by step, group and index: those of one run, or of one example in all runs (`run_id` None).

    `steps` is an inclusive range; `contains` is searched in the text, ignoring case.
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
    order = (Completion.run_id, Completion.step, *WITHIN_STEP, Completion.id)
    with reading(store) as connection:
        rows = connection.execute(statement.order_by(*order).limit(limit).offset(offset))
        return [_completion(row) for row in rows]


def list_texts(
    store: Store, run_id: int, steps: Sequence[int], limit: int
) -> dict[int, list[tuple[str, dict[str, Any] | None]]]:
    """Return the first texts of each step with the `meta` of their examples; fast, because it reads no other column."""
    place = func.row_number().over(partition_by=Completion.step, order_by=WITHIN_STEP)
    ranked = select(Completion.id, place.label("place")).where(Completion.run_id == run_id, Completion.step.in_(steps))
    first = ranked.subquery()
    statement = (
        select(Completion.step, Completion.text, Example.meta)
        .join(first, first.c.id == Completion.id)
        .outerjoin(Example, Example.id == Completion.example_id)
        .where(first.c.place <= limit)
        .order_by(Completion.step, first.c.place)
    )
    texts_by_step: dict[int, list[tuple[str, dict[str, Any] | None]]] = {step: [] for step in steps}
    with reading(store) as connection:
        for step, text, meta in connection.execute(statement):
            texts_by_step[step].append((text, meta))
    return texts_by_step


def iter_completions(store: Store, run_id: int) -> Iterator[StoredCompletion]:
    """Yield all completions of a run by step, read in batches: no transaction stays open, and little memory is used."""
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


def _completions(run_id: int | None = None) -> Select[Any]:
    statement = select(Completion.__table__, *example_columns())
    statement = statement.outerjoin(Example, Example.id == Completion.example_id)
    return statement if run_id is None else statement.where(Completion.run_id == run_id)


def _completion(row: Row[Any]) -> StoredCompletion:
    return StoredCompletion(**trace_values(row))
