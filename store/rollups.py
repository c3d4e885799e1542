"""Roll up metrics: store the lowest, highest and mean value of each range of 32, 256 and 2048 steps.

With roll-ups, many long runs can be drawn without reading every value. All ranges that end before a run's step
`rolled_up.until` are rolled up; later values are read one by one. So a trainer writes roll-ups once every 32 steps. A
transaction that changes earlier values must also update their roll-ups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Select, and_, case, func, literal, select, union_all

from store.db.connection import DriverCursor, Store, reading
from store.db.rows import Band
from store.db.schema import Metric, MetricName, MetricRollup, RolledUp, Run
from store.db.values import clean

WIDTHS = (32, 256, 2048)
"""Widths of ranges in steps; each is a multiple of the one before."""
FINEST = WIDTHS[0]
LARGEST = 1e300
"""Values are limited to this in means, so that sums stay finite."""

UNTIL = "SELECT until FROM rolled_up WHERE run_id = ?"
# Read and lock the row: of two writers to one run on PostgreSQL, the second sees what the first has rolled up.
LOCK = (
    "INSERT INTO rolled_up (run_id, until) VALUES (?, 0) "
    "ON CONFLICT (run_id) DO UPDATE SET until = rolled_up.until RETURNING until"
)
SET_UNTIL = (
    "INSERT INTO rolled_up (run_id, until) VALUES (?, ?) ON CONFLICT (run_id) DO UPDATE SET until = excluded.until"
)
# The primary key begins with run and name: the condition on names makes its other columns usable.
OF_RUN = "run_id = ? AND name_id IN (SELECT id FROM metric_name)"
FORGET = f"DELETE FROM metric_rollup WHERE {OF_RUN} AND width = ? AND start >= ? AND start < ?"
FORGET_FROM = f"DELETE FROM metric_rollup WHERE {OF_RUN} AND width = ? AND start >= ?"
ADD = "INSERT INTO metric_rollup (run_id, name_id, width, start, n, low, high, mean) "
BOUNDED = f"CASE WHEN value > {LARGEST} THEN {LARGEST} WHEN value < -{LARGEST} THEN -{LARGEST} ELSE value END"
ROLL_UP = ADD + (
    f"SELECT run_id, name_id, {FINEST}, min(step) / {FINEST} * {FINEST}, count(*), min(value), max(value), "
    f"sum({BOUNDED}) / count(*) "
    f"FROM metric WHERE {OF_RUN} AND step >= ? AND step < ? AND value IS NOT NULL GROUP BY run_id, name_id"
)
WIDEN = ADD + (
    "SELECT run_id, name_id, {width}, min(start) / {width} * {width}, sum(n), min(low), max(high), "
    "sum(mean * n) / sum(n) "
    f"FROM metric_rollup WHERE {OF_RUN} AND width = {{finer}} AND start >= ? AND start < ? GROUP BY run_id, name_id"
)
FILL_ONE = {FINEST: ROLL_UP} | {width: WIDEN.format(width=width, finer=finer) for finer, width in pairwise(WIDTHS)}
"""For a single range, in the order of the primary key; grouping by range as well would need sorting, twice as slow."""
FILL = {
    width: f"{sql}, {'step' if width == FINEST else 'start'} / {width} * {width}" for width, sql in FILL_ONE.items()
}
LAST_STEP = f"SELECT max(step) FROM metric WHERE {OF_RUN}"


def keep_up(cursor: DriverCursor, run_id: int, step: int) -> None:
    """Roll up the ranges that a change of metrics at `step` completed or altered."""
    until = _until(cursor, run_id)
    if step < until:
        _again(cursor, run_id, step, until)
    elif step - until >= FINEST:
        _advance(cursor, run_id, until, step)


def cut(cursor: DriverCursor, run_id: int, end: int) -> None:
    """Delete the roll-ups of ranges that extend to step `end` or beyond."""
    until = _until(cursor, run_id)
    if until > end:
        for width in WIDTHS:
            cursor.execute(FORGET_FROM, (run_id, width, _floor(end, width)))
        cursor.execute(SET_UNTIL, (run_id, _floor(end, FINEST)))


def build(cursor: DriverCursor, run_id: int) -> None:
    """Roll up a run without roll-ups."""
    (last,) = cursor.execute(LAST_STEP, (run_id,)).fetchone() or (None,)
    if last is not None:
        keep_up(cursor, run_id, last)


def _until(cursor: DriverCursor, run_id: int) -> int:
    """Return the step before which a run is rolled up, and lock it for this transaction."""
    (until,) = cursor.execute(UNTIL if cursor.is_alone else LOCK, (run_id,)).fetchone() or (0,)
    return int(until)


def _advance(cursor: DriverCursor, run_id: int, until: int, step: int) -> None:
    """Roll up the ranges that end between the steps `until` and `step`."""
    cursor.execute(SET_UNTIL, (run_id, _floor(step, FINEST)))
    for width in WIDTHS:
        low, high = _floor(until, width), _floor(step, width)
        if low < high:
            fill = FILL_ONE if high - low == width else FILL
            cursor.execute(fill[width], (run_id, low, high))


def _again(cursor: DriverCursor, run_id: int, step: int, until: int) -> None:
    """Update the roll-ups of the ranges that contain a step and end by `until`."""
    for width in WIDTHS:
        low = _floor(step, width)
        if low + width <= until:
            cursor.execute(FORGET, (run_id, width, low, low + width))
            cursor.execute(FILL_ONE[width], (run_id, low, low + width))


def _floor(step: int, width: int) -> int:
    return step // width * width


def read_rollups(
    store: Store, run_ids: Iterable[int], name: str, *, lo: int | None = None, hi: int | None = None, points: int = 400
) -> dict[int, Band]:
    """Return lowest, highest and mean values of one metric of many runs, from step `lo` to `hi` (inclusive).

    Each run gets at most `points + 1` ranges, equally wide in all runs, and none if it lacks the metric. If the runs
    have at most `points` steps there, these are the values themselves. Values outside of `lo` to `hi` do not count.
    """
    distinct_ids = list(dict.fromkeys(run_ids))
    with reading(store) as connection:
        name_id = connection.scalar(select(MetricName.id).where(MetricName.name == clean(name)))
        extents = [] if name_id is None else connection.execute(_extent(distinct_ids, name_id, lo, hi)).all()
        present = [row for row in extents if row.first is not None]
        if name_id is None or not present:
            return {run_id: _band([], 1) for run_id in distinct_ids}
        first, last = min(row.first for row in present), max(row.last for row in present)
        width, level = _resolution(last - first + 1, points)
        rows = connection.execute(_ranges([row.id for row in present], name_id, first, last, width, level)).all()
    by_run: dict[int, list[Any]] = {run_id: [] for run_id in distinct_ids}
    for run_id, *values in rows:
        by_run[run_id].append(values)
    return {run_id: _band(values_of_run, width) for run_id, values_of_run in by_run.items()}


def _extent(run_ids: Sequence[int], name_id: int, lo: int | None, hi: int | None) -> Select[Any]:
    """Select the first and last step of a metric in each run."""
    of_metric = [Metric.run_id == Run.id, Metric.name_id == name_id]
    of_metric += ([] if lo is None else [Metric.step >= lo]) + ([] if hi is None else [Metric.step <= hi])
    first, last = (
        select(Metric.step).where(*of_metric).order_by(order).limit(1).scalar_subquery()
        for order in (Metric.step, Metric.step.desc())
    )
    return select(Run.id, first.label("first"), last.label("last")).where(Run.id.in_(run_ids))


def _resolution(steps: int, points: int) -> tuple[int, int | None]:
    """Return the width of ranges, and that of the roll-ups they are made of; None if they are made of single values.

    Ranges made of roll-ups are up to twice as wide as necessary.
    """
    width = -(-steps // max(1, points))
    level = max((level for level in WIDTHS if level <= 2 * width), default=None) if width > 1 else None
    return (width, None) if level is None else (-(-width // level) * level, level)


def _ranges(run_ids: Sequence[int], name_id: int, first: int, last: int, width: int, level: int | None) -> Select[Any]:
    """Select the ranges of all runs: from roll-ups where they exist, else from values, as at the edges."""
    inner, outer = (first, first) if level is None else (_floor(first + level - 1, level), _floor(last + 1, level))
    if level is None or inner >= outer:
        parts = _values(run_ids, name_id, Metric.step.between(first, last)).subquery()
    else:
        of_level = (MetricRollup.run_id.in_(run_ids), MetricRollup.name_id == name_id, MetricRollup.width == level)
        rolled = select(
            MetricRollup.run_id,
            MetricRollup.start.label("step"),
            MetricRollup.n,
            MetricRollup.low,
            MetricRollup.high,
            MetricRollup.mean,
        ).where(*of_level, MetricRollup.start >= inner, MetricRollup.start < outer)
        before = _values(run_ids, name_id, and_(Metric.step >= first, Metric.step < inner))
        until = func.coalesce(RolledUp.until, 0) // level * level
        end = case((until < inner, inner), (until > outer, outer), else_=until)
        after = _values(run_ids, name_id, and_(Metric.step >= end, Metric.step <= last), with_until=True)
        parts = union_all(rolled, before, after).subquery()
    part = parts.c
    begin = (part.step // width * width).label("begin")
    mean = func.sum(part.mean * part.n) / func.sum(part.n)
    columns = (part.run_id, begin, func.sum(part.n), func.min(part.low), func.max(part.high), mean)
    return select(*columns).group_by(part.run_id, "begin").order_by(part.run_id, "begin")


def _values(
    run_ids: Sequence[int], name_id: int, where: ColumnElement[bool], *, with_until: bool = False
) -> Select[Any]:
    """Select single values in the form of roll-ups."""
    value = Metric.value
    bounded = case((value > LARGEST, LARGEST), (value < -LARGEST, -LARGEST), else_=value)
    columns = (
        Metric.run_id,
        Metric.step.label("step"),
        literal(1).label("n"),
        value.label("low"),
        value.label("high"),
        bounded.label("mean"),
    )
    statement = select(*columns).where(Metric.name_id == name_id, value.is_not(None), where)
    if not with_until:
        return statement.where(Metric.run_id.in_(run_ids))
    return (
        statement.select_from(Run).outerjoin(RolledUp).join(Metric, Metric.run_id == Run.id).where(Run.id.in_(run_ids))
    )


def _band(rows: Sequence[Any], width: int) -> Band:
    step, n, low, high, mean = zip(*rows, strict=True) if rows else ([],) * 5
    floats = (np.array(values, np.float64) for values in (low, mean, high))
    return Band(width, np.array(step, np.int64), np.array(n, np.int64), *floats)
