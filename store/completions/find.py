"""Search many completions with filters, orders, keyset pagination, and text search under a time limit. Read-only.

Filters and orders read only the index `ix_completion_facets`, so that each costs about the same; the texts of a page
are read afterwards, by id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, select, tuple_

from store.completions.patterns import Matcher
from store.completions.rows import get_completions
from store.db.connection import Store, reading
from store.db.rows import StoredCompletion
from store.db.schema import Completion, TraceTag
from store.db.values import clean

Range = tuple[float | None, float | None]
"""An inclusive range; None leaves an end open."""
Place = tuple[float, int]
"""The end of a page: the value by which it is ordered, and the id of its last completion."""
FIRST_SLICE, LAST_SLICE = 1000, 64_000

CHUNK = 250
"""Texts read in one query."""
BEYOND = 1e300
"""Replaces a missing value, which is sorted last in either direction."""
ORDERS: dict[str, ColumnElement[Any]] = {
    "step": Completion.__table__.c.step,
    "reward": Completion.__table__.c.reward,
    "tokens": Completion.__table__.c.tokens,
    "reasoning_steps": Completion.__table__.c.reasoning_steps,
}


class TraceFilter(NamedTuple):
    """A filter of completions; None means any."""

    run_id: int | None = None
    step: Range = (None, None)
    reward: Range = (None, None)
    tokens: Range = (None, None)
    reasoning_steps: Range = (None, None)
    """Counted reasoning steps."""
    correct: bool | None = None
    wellformed: bool | None = None
    truncated: bool | None = None
    example_id: int | None = None
    answer: int | None = None
    tag: str | None = None


class Order(NamedTuple):
    """`by` is a key of ORDERS."""

    by: str
    descending: bool


LATEST = Order("step", True)


class FoundPage(NamedTuple):
    """`after` is where the next page begins; None on the last page."""

    rows: list[StoredCompletion]
    after: Place | None


def count_found(store: Store, trace_filter: TraceFilter) -> int:
    with reading(store) as connection:
        return connection.scalar(select(func.count()).select_from(Completion).where(*_matches(trace_filter))) or 0


def find_completions(
    store: Store, trace_filter: TraceFilter, order: Order = LATEST, *, after: Place | None = None, limit: int
) -> FoundPage:
    """Return a page of completions; `after` is that of the previous page."""
    places = _places(store, trace_filter, order, after, limit)
    rows = get_completions(store, [id for _, id in places])
    return FoundPage(rows, places[-1] if len(places) == limit else None)


def scan_completions(
    store: Store, trace_filter: TraceFilter, matches: Matcher, order: Order = LATEST
) -> Iterator[int | None]:
    """Yield for each text in order the completion's id if it matches, or else None. Raises what the matcher raises.

    No transaction stays open between two texts, so that a caller can stop at any time and continue later.
    """
    for places in _slices(store, trace_filter, order):
        for start in range(0, len(places), CHUNK):
            ids = [id for _, id in places[start : start + CHUNK]]
            statement = select(Completion.id, Completion.text).where(Completion.id.in_(ids))
            with reading(store) as connection:
                texts = {row.id: row.text for row in connection.execute(statement)}
            yield from (id if matches(texts[id]) else None for id in ids if id in texts)


def iter_found(
    store: Store, trace_filter: TraceFilter, order: Order = LATEST, matches: Matcher | None = None
) -> Iterator[StoredCompletion]:
    """Yield all matches, read in batches: no transaction stays open, and little memory is used."""
    for places in _slices(store, trace_filter, order):
        for start in range(0, len(places), CHUNK):
            rows = get_completions(store, [id for _, id in places[start : start + CHUNK]])
            yield from (row for row in rows if matches is None or matches(row.text))


def _slices(store: Store, trace_filter: TraceFilter, order: Order) -> Iterator[list[Place]]:
    """Yield all positions in order, in slices: small ones first for early results, then larger for fewer queries."""
    size = FIRST_SLICE
    after: Place | None = None
    while places := _places(store, trace_filter, order, after, size):
        yield places
        if len(places) < size:
            return
        after, size = places[-1], min(4 * size, LAST_SLICE)


def _places(store: Store, trace_filter: TraceFilter, order: Order, after: Place | None, limit: int) -> list[Place]:
    key: ColumnElement[Any] = ORDERS[order.by]
    if key.nullable:
        key = func.coalesce(key, -BEYOND if order.descending else BEYOND)
    statement = select(key, Completion.id).where(*_matches(trace_filter))
    place = tuple_(key, Completion.id)
    if after is not None:
        statement = statement.where(place < after if order.descending else place > after)
    ordered = [column.desc() if order.descending else column.asc() for column in (key, Completion.id)]
    with reading(store) as connection:
        return [(row[0], row[1]) for row in connection.execute(statement.order_by(*ordered).limit(limit))]


def _matches(trace_filter: TraceFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for equal in ("run_id", "example_id", "answer"):
        if getattr(trace_filter, equal) is not None:
            conditions.append(Completion.__table__.c[equal] == getattr(trace_filter, equal))
    for truth in ("correct", "wellformed", "truncated"):
        if getattr(trace_filter, truth) is not None:
            conditions.append(Completion.__table__.c[truth].is_(getattr(trace_filter, truth)))
    for name in ("step", "reward", "tokens", "reasoning_steps"):
        conditions += _within(Completion.__table__.c[name], getattr(trace_filter, name))
    if trace_filter.tag is not None:
        tagged = select(TraceTag.completion_id).where(
            TraceTag.name == clean(trace_filter.tag), TraceTag.completion_id.is_not(None)
        )
        conditions.append(Completion.id.in_(tagged))
    return conditions


def _within(column: ColumnElement[Any], ends: Sequence[float | None]) -> list[ColumnElement[bool]]:
    low, high = ends
    return ([] if low is None else [column >= low]) + ([] if high is None else [column <= high])
