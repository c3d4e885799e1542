"""Curves of many runs at once: the lowest, highest and mean value of a metric in ranges of steps. Portable SQL.

Ranges begin at multiples of their width, a power of two, so they agree between runs and do not move as runs grow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import Integer, bindparam, func, literal, select, true

from store.db.connection import Store, reading
from store.db.rows import Clock
from store.db.schema import Metric, MetricName, Run, Step
from store.db.values import clean
from store.metrics import MAX_STEP

Floats = npt.NDArray[np.float64]
KNOTS = 200
"""Points of a clock: between them, time and tokens are taken to pass evenly."""


class Ranges(NamedTuple):
    """A curve; entry i covers the steps `first[i]` to `last[i]` at which something was recorded, which may be one."""

    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    low: Floats
    high: Floats
    mean: Floats


NOTHING = Ranges(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0))


def range_width(lo: int, hi: int, points: int) -> int:
    """Return the smallest power of two that makes at most `points` ranges of the steps `lo` to `hi`."""
    width = 1
    while (hi - lo) // width + 1 > points:
        width *= 2
    return width


def read_ranges(
    store: Store, run_ids: Sequence[int], name: str, *, width: int = 1, lo: int = 0, hi: int = MAX_STEP
) -> dict[int, Ranges]:
    """Return the metric of each run that has it, from step `lo` to `hi` (inclusive), in ranges of `width` steps."""
    part = (Metric.step // bindparam("width", width, Integer)).label("part")
    step, value = Metric.step, Metric.value
    name_id = select(MetricName.id).where(MetricName.name == clean(name)).scalar_subquery()
    statement = (
        select(Metric.run_id, func.min(step), func.max(step), func.min(value), func.max(value), func.avg(value), part)
        .where(Metric.run_id.in_(run_ids), Metric.name_id == name_id)
        .where(Metric.step.between(lo, hi), Metric.value.is_not(None))
        .group_by(Metric.run_id, "part")  # PostgreSQL does not see that two expressions with parameters are equal
        .order_by(Metric.run_id, func.min(step))
    )
    with reading(store) as connection:
        rows = connection.execute(statement).all()
    if not rows:
        return {}
    columns = np.array([np.array(column, np.float64) for column in zip(*rows, strict=True)])
    found, begins = np.unique(columns[0], return_index=True)
    parts = np.split(columns[1:-1], begins[1:], axis=1)
    return {
        int(run_id): Ranges(first.astype(np.int64), last.astype(np.int64), low, high, mean)
        for run_id, (first, last, low, high, mean) in zip(found, parts, strict=True)
    }


def list_recorded(store: Store, run_ids: Sequence[int]) -> dict[str, frozenset[int]]:
    """Return the runs that have each metric, with one index look-up for each pair."""
    recorded = (
        select(Metric.step).where(Metric.run_id == Run.id, Metric.name_id == MetricName.id).correlate(Run, MetricName)
    )
    statement = (
        select(MetricName.name, Run.id)
        .join(MetricName, true())
        .where(Run.id.in_(run_ids), recorded.exists())
        .order_by(MetricName.name)
    )
    found: dict[str, set[int]] = {}
    with reading(store) as connection:
        for name, run_id in connection.execute(statement):
            found.setdefault(name, set()).add(run_id)
    return {name: frozenset(ids) for name, ids in found.items()}


def read_clocks(store: Store, run_ids: Sequence[int], knots: int = KNOTS) -> dict[int, Clock]:
    """Return when steps were recorded and the tokens until then, at evenly spaced steps of each run."""
    number = select(literal(0).label("i")).cte("number", recursive=True)
    number = number.union_all(select(number.c.i + 1).where(number.c.i < bindparam("knots", knots)))
    until = Run.step * number.c.i // bindparam("knots", knots)
    nearest = (
        select(Step.step)
        .where(Step.run_id == Run.id, Step.step >= until)
        .order_by(Step.step)
        .limit(1)
        .correlate(Run, number)
        .scalar_subquery()
    )
    chosen = select(Run.id, nearest.label("step")).join(number, true()).where(Run.id.in_(run_ids)).distinct().subquery()
    statement = (
        select(Step.run_id, Step.step, Step.at, Step.tokens)
        .join(chosen, (Step.run_id == chosen.c.id) & (Step.step == chosen.c.step))
        .order_by(Step.run_id, Step.step)
    )
    rows: dict[int, list[tuple[float, ...]]] = {}
    with reading(store) as connection:
        for run_id, step, at, tokens in connection.execute(statement):
            rows.setdefault(run_id, []).append((step, at, np.nan if tokens is None else tokens))
    return {run_id: _clock(each) for run_id, each in rows.items()}


def _clock(rows: Sequence[tuple[float, ...]]) -> Clock:
    step, at, tokens = np.array(rows, np.float64).T
    return Clock(step.astype(np.int64), at, tokens)


def longest(curves: Mapping[int, Ranges]) -> int:
    """Return the last step of any of the curves, 0 without any."""
    return max((int(curve.last[-1]) for curve in curves.values() if len(curve.last)), default=0)


class Summary(NamedTuple):
    """One metric of a run; `recent` is the mean of its last RECENT values."""

    last: float
    low: float
    high: float
    mean: float
    recent: float


RECENT = 20


def read_summary(store: Store, run_ids: Sequence[int], name: str) -> dict[int, Summary]:
    """Return what a metric came to in each run that has it."""
    name_id = select(MetricName.id).where(MetricName.name == clean(name)).scalar_subquery()
    own = (Metric.run_id.in_(run_ids), Metric.name_id == name_id, Metric.value.is_not(None))
    whole = (
        select(Metric.run_id, func.min(Metric.value), func.max(Metric.value), func.avg(Metric.value))
        .where(*own)
        .group_by(Metric.run_id)
    )
    number = func.row_number().over(partition_by=Metric.run_id, order_by=Metric.step.desc()).label("number")
    numbered = select(Metric.run_id, Metric.value, number).where(*own).subquery()
    newest = select(numbered).where(numbered.c.number <= RECENT).order_by(numbered.c.run_id, numbered.c.number)
    ends: dict[int, list[float]] = {}
    with reading(store) as connection:
        for run_id, value, _ in connection.execute(newest):
            ends.setdefault(run_id, []).append(value)
        rows = connection.execute(whole).all()
    return {
        run_id: Summary(ends[run_id][0], low, high, mean, float(np.mean(ends[run_id])))
        for run_id, low, high, mean in rows
    }
