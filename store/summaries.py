"""Summarize many runs with one query each: names of metrics, clocks, and results of a metric. Portable SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import bindparam, literal, select, true

from store.db.connection import Store, reading
from store.db.rows import Band, Clock
from store.db.schema import Metric, MetricName, Run, Step
from store.db.values import clean
from store.rollups import read_rollups

KNOTS = 200
"""Points of a clock, between which time and tokens are interpolated."""


def list_recorded(store: Store, run_ids: Sequence[int]) -> dict[str, frozenset[int]]:
    """Return the runs that have each metric, with one index look-up per pair."""
    recorded = (
        select(Metric.step).where(Metric.run_id == Run.id, Metric.name_id == MetricName.id).correlate(Run, MetricName)
    )
    statement = (
        select(MetricName.name, Run.id)
        .join(MetricName, true())
        .where(Run.id.in_(run_ids), recorded.exists())
        .order_by(MetricName.name)
    )
    runs_by_metric: dict[str, set[int]] = {}
    with reading(store) as connection:
        for name, run_id in connection.execute(statement):
            runs_by_metric.setdefault(name, set()).add(run_id)
    return {name: frozenset(ids) for name, ids in runs_by_metric.items()}


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


class Summary(NamedTuple):
    """One metric of a run; `recent` is the mean of its last RECENT values."""

    last: float
    low: float
    high: float
    mean: float
    recent: float


RECENT = 20


def read_summary(store: Store, run_ids: Sequence[int], name: str) -> dict[int, Summary]:
    """Summarize a metric in each run that has it.

    The newest values are looked up run by run, because a window function would read all values of all runs.
    """
    newest = (
        select(Metric.value)
        .where(Metric.run_id == bindparam("run"), Metric.name_id == bindparam("name"), Metric.value.is_not(None))
        .order_by(Metric.step.desc())
        .limit(RECENT)
    )
    with reading(store) as connection:
        name_id = connection.scalar(select(MetricName.id).where(MetricName.name == clean(name)))
        ends: dict[int, list[Any]] = {
            id: list(connection.scalars(newest, {"run": id, "name": name_id})) for id in run_ids if name_id
        }
    values_by_run = {id: values for id, values in ends.items() if values}
    whole = read_rollups(store, list(values_by_run), name, points=1)
    return {run_id: _summary(values, whole[run_id]) for run_id, values in values_by_run.items()}


def _summary(newest: Sequence[float], whole: Band) -> Summary:
    mean = float(np.average(whole.mean, weights=whole.n))
    return Summary(newest[0], float(whole.low.min()), float(whole.high.max()), mean, float(np.mean(newest)))
