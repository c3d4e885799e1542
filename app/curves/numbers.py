"""The table of a chart: final values and extremes of each curve, and statistics of each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import streamlit as st

from app.curves.axes import SharedAxis
from app.curves.bands import Points, common_end, finite_points, grid, mean_until
from app.curves.catalogue import MetricChart
from app.curves.figures import RunCurve
from app.curves.grouping import Entry
from app.shared import format, links

FIRST = ("curve", "traces", "outlier", "outside the others")
"""Columns that stay in sight on a narrow screen."""
LEVELS = ("last", "± sd of last", "lowest", "highest")
"""Columns in the unit of the metric, beside its mean."""
ENOUGH = 3
"""Minimum number of runs in a group for finding an outlier."""


OUTLIER_SHARE = 0.1
"""Share of the axis over which an outlier must lie outside all others without interruption, unlike noise."""


class Outlier(NamedTuple):
    """The run of a group that lies furthest outside the others, and the range in which it does."""

    run: int
    first: float
    last: float


def outlier(curves: Sequence[Points]) -> Outlier | None:
    """Return the run with the largest area outside all others, and its largest range there; None if that is short."""
    runs = [finite_points(each) for each in curves]
    if len(runs) < ENOUGH or any(not len(run.x) for run in runs):
        return None
    x = grid(runs)
    values = np.array([np.interp(x, run.x, run.y, left=np.nan, right=np.nan) for run in runs])
    x, values = x[np.isfinite(values).all(axis=0)], values[:, np.isfinite(values).all(axis=0)]
    if not len(x):
        return None
    outside = [_outside(values, index) for index in range(len(runs))]
    index = int(np.argmax([each.sum() for each in outside]))
    beyond = outside[index] > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], beyond.astype(int), [0]])))
    stretches = list(zip(edges[::2], edges[1::2], strict=True))
    start, end = max(stretches, key=lambda each: outside[index][each[0] : each[1]].sum(), default=(0, 0))
    if end - start < max(2, OUTLIER_SHARE * len(x)):
        return None
    return Outlier(index, float(x[start]), float(x[end - 1]))


def _outside(values: np.ndarray, index: int) -> np.ndarray:
    """Return by how much a run lies above the maximum or below the minimum of the others."""
    others = np.delete(values, index, axis=0)
    return np.maximum(0, np.maximum(values[index] - others.max(axis=0), others.min(axis=0) - values[index]))


def numbers(
    chart: MetricChart, metric: str, entry_curves: Sequence[tuple[Entry, Sequence[RunCurve]]], axis: SharedAxis
) -> None:
    """Show the table; links lead to the traces of each row's run."""
    rows = table(entry_curves, axis)
    found = dict.fromkeys(key for row in rows for key in row)
    names = [*(name for name in FIRST if name in found), *(name for name in found if name not in FIRST)]
    columns = {name: [row.get(name) for row in rows] for name in names}
    st.dataframe(
        columns,
        key=f"numbers.{chart.key}",
        hide_index=True,
        placeholder=format.UNKNOWN,
        column_config=_config(columns),
        alt=f"{chart.title} in numbers, one row per curve",
    )
    end = common_end([each.mean for _, curves in entry_curves for each in curves])
    if end is not None:
        st.caption(
            "Values are smoothed like the curves, except for the lowest and highest. "
            f"The mean until {end:,.6g} is the mean height of the curve up to the last position that all curves reach; "
            "it is higher if a curve rises faster."
        )


def _config(columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return the columns' looks; name and link stay visible on a narrow screen."""
    levels = [name for name in columns if name in LEVELS or name.startswith("mean until")]
    form = format.aligned_format(value for name in levels for value in columns[name])
    return {
        "curve": st.column_config.TextColumn("curve", pinned=True),
        "traces": st.column_config.LinkColumn(
            "traces", display_text="open", pinned=True, help="Traces of this run at that step."
        ),
        **{name: st.column_config.NumberColumn(name, format=form) for name in levels},
    }


def table(entry_curves: Sequence[tuple[Entry, Sequence[RunCurve]]], axis: SharedAxis) -> list[dict[str, Any]]:
    """Return a row per entry, highest mean first; for groups, the mean over their runs ± standard deviation."""
    end = common_end([each.mean for _, curves in entry_curves for each in curves])
    rows = [
        _row(entry, curves, end, axis)
        for entry, curves in entry_curves
        if any(len(finite_points(c.mean).x) for c in curves)
    ]
    order = next((name for name in rows[0] if name.startswith("mean until")), "last") if rows else "last"
    return sorted(rows, key=lambda row: -(row[order] if row[order] is not None else -np.inf))


def _row(entry: Entry, curves: Sequence[RunCurve], end: float | None, axis: SharedAxis) -> dict[str, Any]:
    of_runs = [(curve, finite_points(curve.mean)) for curve in curves]
    of_runs = [(curve, points) for curve, points in of_runs if len(points.x)]
    last = [float(points.y[-1]) for _, points in of_runs]
    until = [] if end is None else [mean_until(points, end) for _, points in of_runs]
    row: dict[str, Any] = {"curve": entry.label}
    if entry.is_group:
        row["n"] = len(of_runs)
    row |= {"ends at": float(max(points.x[-1] for _, points in of_runs)), "last": _mean(last)}
    if entry.is_group:
        row["± sd of last"] = _deviation(last)
    if end is not None:
        row[f"mean until {end:,.6g}"] = _mean(until)
    row |= {
        "lowest": float(min(np.nanmin(curve.raw.y) for curve, _ in of_runs)),
        "highest": float(max(np.nanmax(curve.raw.y) for curve, _ in of_runs)),
    }
    ids = {run.uid: run.id for run in entry.members}
    if not entry.is_group:
        curve = of_runs[0][0]
        place = float(curve.raw.x[np.nanargmax(curve.raw.y)])
        return row | {"highest at": place, "traces": _traces(curve.key, axis.step(ids[curve.key], place))}
    odd = outlier([points for _, points in of_runs])
    if odd is not None:
        curve = of_runs[odd.run][0]
        outlier_span = f"{odd.first:,.6g} to {odd.last:,.6g}"
        row |= {"outlier": curve.label, "outside the others": outlier_span}
        row["traces"] = _traces(curve.key, axis.step(ids[curve.key], odd.first))
    return row


def _traces(uid: str, step: int) -> str:
    return links.page("traces", run=uid, step=step)


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def _deviation(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
