"""Compute the speed and the reward sparkline of runs, for lists of runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from sqlalchemy import Connection, ScalarSelect, Select, and_, func, literal, select, true

from store.db.schema import Metric, MetricName, Run, Step

RECENT_STEPS = 20
SPARKLINE_POINTS = 40
SPARKLINE_METRICS = ("reward", "probe/reward")


def pace(connection: Connection, chosen: Select[Any]) -> dict[int, tuple[float | None, float | None]]:
    """Return seconds per step and tokens per second of each run, as medians over its latest steps."""
    recent = (
        select(Run.id, Step.step, Step.at, Step.tokens)
        .join(Step, and_(Step.run_id == Run.id, Step.step > Run.step - RECENT_STEPS - 1))
        .where(Run.id.in_(chosen))
        .order_by(Run.id, Step.step)
    )
    steps: dict[int, list[tuple[int, float, float | None]]] = defaultdict(list)
    for run_id, step, at, tokens in connection.execute(recent):
        if all(_is_finite(value) for value in (step, at, 0 if tokens is None else tokens)):
            steps[run_id].append((step, at, tokens))
    return {run_id: _medians(rows) for run_id, rows in steps.items()}


def _is_finite(value: Any) -> bool:
    """Return whether a number is finite; SQLite does not ensure that."""
    return isinstance(value, int | float) and math.isfinite(value)


def _medians(rows: Sequence[tuple[int, float, float | None]]) -> tuple[float | None, float | None]:
    seconds, speeds = [], []
    for (step, at, tokens), (next_step, next_at, next_tokens) in pairwise(rows):
        seconds.append((next_at - at) / (next_step - step))
        if tokens is not None and next_tokens is not None and next_at > at:
            speeds.append((next_tokens - tokens) / (next_at - at))
    return (median(seconds) if seconds else None), (median(speeds) if speeds else None)


def sparklines(connection: Connection, chosen: Select[Any]) -> dict[int, list[float]]:
    """Return values at evenly spaced steps; the number of look-ups does not depend on the length of the runs."""
    number = select(literal(1).label("i")).cte("number", recursive=True)
    number = number.union_all(select(number.c.i + 1).where(number.c.i < SPARKLINE_POINTS))

    def latest(name: str) -> ScalarSelect[float]:
        name_id = select(MetricName.id).where(MetricName.name == name).scalar_subquery()
        until = Run.step * number.c.i // SPARKLINE_POINTS
        value = select(Metric.value).where(Metric.run_id == Run.id, Metric.name_id == name_id, Metric.step <= until)
        return value.where(Metric.value.is_not(None)).order_by(Metric.step.desc()).limit(1).scalar_subquery()

    value = func.coalesce(*(latest(name) for name in SPARKLINE_METRICS))
    statement = select(Run.id, value).join(number, true()).where(Run.id.in_(chosen)).order_by(Run.id, number.c.i)
    points_by_run: dict[int, list[float]] = defaultdict(list)
    for run_id, point in connection.execute(statement):
        if _is_finite(point):
            points_by_run[run_id].append(point)
    return points_by_run
