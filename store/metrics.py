"""Read a run's metrics over its steps, downsampled in the database without losing spikes. Portable SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Integer, ScalarSelect, Select, bindparam, func, select

from store.db.connection import Store, reading
from store.db.rows import Clock, Series
from store.db.schema import Metric, MetricName, Step
from store.db.values import clean

# Built once: a page reads thirty curves, and building their statements took a third of the time.
EVERY = select(Metric.step, Metric.value).where(
    Metric.run_id == bindparam("run_id"),
    Metric.name_id == bindparam("name_id"),
    Metric.step.between(bindparam("lo"), bindparam("hi")),
)
BEYOND = EVERY.order_by(Metric.step).offset(bindparam("points", type_=Integer)).limit(1)
FIRST, LAST = EVERY.order_by(Metric.step).limit(1), EVERY.order_by(Metric.step.desc()).limit(1)


MIN_STEP, MAX_STEP = -(2**31), 2**31 - 1


"""The largest value of an INTEGER column in PostgreSQL; SQLite's are larger."""


def list_metric_names(store: Store, run_id: int) -> list[str]:
    """Return a run's metric names, sorted, with one index look-up per known name regardless of the number of steps."""
    recorded = select(Metric.step).where(Metric.run_id == run_id, Metric.name_id == MetricName.id).exists()
    with reading(store) as connection:
        return sorted(connection.scalars(select(MetricName.name).where(recorded)))


def read_series(
    store: Store, run_id: int, names: Iterable[str], *, points: int = 1000, lo: int | None = None, hi: int | None = None
) -> dict[str, Series]:
    """Return metrics from step `lo` to `hi` (inclusive) in at most `points` points each; empty without values.

    A longer series keeps its first and last point, and the lowest and highest point in each of equally wide ranges.
    """
    names = list(names)
    part = {"run_id": run_id, "lo": MIN_STEP if lo is None else lo, "hi": MAX_STEP if hi is None else hi}
    with reading(store) as connection:
        ids = _ids(connection, names)
        return {
            name: _one(connection, part | {"name_id": ids[name]}, points) if name in ids else _series([])
            for name in names
        }


def read_ends(store: Store, run_id: int, names: Iterable[str], count: int) -> dict[str, Series]:
    """Return the first and last `count` values of each known metric, or all values if there are fewer."""
    with_value = EVERY.where(Metric.value.is_not(None)).limit(count)
    first, last = with_value.order_by(Metric.step), with_value.order_by(Metric.step.desc())

    def of(name_id: int) -> Series:
        part = {"run_id": run_id, "name_id": name_id, "lo": MIN_STEP, "hi": MAX_STEP}
        points = {row.step: row.value for side in (first, last) for row in connection.execute(side, part)}
        return _series(list(points.items()))

    with reading(store) as connection:
        return {name: of(name_id) for name, name_id in _ids(connection, names).items()}


def read_running_total(store: Store, run_id: int, name: str) -> Series:
    """Return the cumulative sum of a metric at each step that has a value."""
    total = func.sum(Metric.value).over(order_by=Metric.step)
    statement = select(Metric.step, total).join(MetricName, MetricName.id == Metric.name_id)
    statement = statement.where(Metric.run_id == run_id, MetricName.name == clean(name), Metric.value.is_not(None))
    with reading(store) as connection:
        return _series(connection.execute(statement).all())


def read_clock(store: Store, run_id: int) -> Clock:
    """Return when each step was recorded and the tokens until then, the other two x axes."""
    statement = select(Step.step, Step.at, Step.tokens).where(Step.run_id == run_id).order_by(Step.step)
    with reading(store) as connection:
        rows = connection.execute(statement).all()
    steps, at, tokens = zip(*rows, strict=True) if rows else ((), (), ())
    return Clock(np.array(steps, np.int64), np.array(at, np.float64), np.array(tokens, np.float64))


def _ids(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return the ids of known names."""
    stored = {name: clean(name) for name in names}
    statement = select(MetricName.name, MetricName.id).where(MetricName.name.in_(stored.values()))
    ids_by_name = {name: id for name, id in connection.execute(statement)}
    return {name: ids_by_name[stored_name] for name, stored_name in stored.items() if stored_name in ids_by_name}


def _one(connection: Connection, parameters: dict[str, int], points: int) -> Series:
    """Return the points of one series."""
    if connection.execute(BEYOND, parameters | {"points": points}).first() is None:
        return _series(connection.execute(EVERY, parameters).all())
    rows: list[Any] = [connection.execute(FIRST, parameters).one(), connection.execute(LAST, parameters).one()]
    first, last = rows[0].step, rows[1].step
    bounds = {"first": first, "last": last, "width": range_width(first, last, points)}
    total = 0
    for low_step, low, high_step, high, n in connection.execute(EXTREMES, parameters | bounds):
        total += n
        if low is not None:
            rows += [(low_step, low), (high_step, high)]
    return _series(rows, total)


def range_width(first: int, last: int, points: int) -> int:
    """Return the width in steps of ranges whose extremes, with first and last point, give at most `points` points."""
    return -(-(last - first + 1) // max(1, (points - 2) // 2))


def _extremes() -> Select[Any]:
    """Select the lowest and highest point of each range of `width` steps, and its number of points.

    Looking up their steps afterwards is five times faster than window functions, and faster than SQLite's bare columns.
    """
    first, last, width = (bindparam(name, type_=Integer) for name in ("first", "last", "width"))
    of_metric = (Metric.run_id == bindparam("run_id"), Metric.name_id == bindparam("name_id"))
    bucket = ((Metric.step - first) // width).label("bucket")
    low, high, n = func.min(Metric.value).label("low"), func.max(Metric.value).label("high"), func.count().label("n")
    bounds = (
        select(bucket, low, high, n)
        .where(*of_metric, Metric.step.between(first, last))
        .group_by("bucket")  # PostgreSQL does not see that two expressions with parameters are equal
        .cte("bounds")
    )
    begin = bounds.c.bucket * width + first

    def step_of(value: ColumnElement[Any]) -> ScalarSelect[int]:
        inside = Metric.step.between(begin, begin + (width - 1))
        return (
            select(Metric.step)
            .where(*of_metric, Metric.value == value, inside)
            .order_by(Metric.step)
            .limit(1)
            .scalar_subquery()
        )

    ranges = bounds.c
    return select(step_of(ranges.low), ranges.low, step_of(ranges.high), ranges.high, ranges.n)


EXTREMES = _extremes()


def _series(rows: Sequence[Any], total: int | None = None) -> Series:
    """Return the series of (step, value) rows, in any order, each step once."""
    step = np.array([row[0] for row in rows], np.int64)
    value = np.array([row[1] for row in rows], np.float64)
    step, chosen = np.unique(step, return_index=True)
    return Series(step, value[chosen], len(rows) if total is None else total)
