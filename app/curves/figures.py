"""Figures that overlay many runs. Pure functions; the page's legend hides curves by the key in their `meta`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from app.curves.bands import Band, Floats, Points, Spread, band
from app.curves.grouping import Entry
from app.shared import figures
from app.shared.links import Zoom
from app.shared.live_chart import Figure, pack_numbers
from store.db.rows import Band as Rolled

RAW = 8
"""Maximum number of curves for which raw values are drawn behind smoothed ones."""
HEIGHT, TALL = 250, 460


class RunCurve(NamedTuple):
    """A run's curve on the x axis: `points` as drawn, `mean` of each range, `raw` with each range's extremes."""

    key: str
    label: str
    points: Points
    mean: Points
    raw: Points


class ChartStyle(NamedTuple):
    """Style of a chart."""

    x_title: str
    spread: Spread
    zoom: Zoom = None
    share: bool = False
    log: bool = False
    sparse: bool = False
    smoothed: bool = False
    singles: bool = False
    """Whether the runs of a group are drawn behind its line."""
    tall: bool = False


def curve(key: str, label: str, rolled: Rolled, first: Floats, last: Floats, smoothing: float) -> RunCurve:
    """Return a run's curve; `first` and `last` are the positions of the ranges' ends."""
    mean = Points((first + last) / 2, figures.smooth(rolled.step.astype(float), rolled.mean, smoothing))
    if rolled.width == 1:
        return RunCurve(key, label, mean, mean, Points(first, rolled.mean))
    raw = Points(np.stack([first, last], 1).ravel(), np.stack([rolled.low, rolled.high], 1).ravel())
    return RunCurve(key, label, mean if smoothing > 0 else raw, mean, raw)


def overlay(entry_curves: Sequence[tuple[Entry, Sequence[RunCurve]]], look: ChartStyle) -> Figure:
    """Return the runs, or the groups with their bands, in one figure: bands first, then runs, then groups."""
    back, runs, front = [], [], []
    with_raw = look.smoothed and sum(len(curves) for _, curves in entry_curves) <= RAW
    for entry, curves in entry_curves:
        if not entry.is_group:
            back += [_raw(entry, each) for each in curves if with_raw]
            runs += [_run(entry, each, look, behind=False) for each in curves]
            continue
        together = band([each.mean for each in curves], look.spread)
        if look.share:
            together = together._replace(low=np.maximum(together.low, 0.0), high=np.minimum(together.high, 1.0))
        back += _bands(entry, together)
        runs += [_run(entry, each, look, behind=True) for each in curves if look.singles]
        front += _middle(entry, together, look)
    return {"data": [*back, *runs, *front], "layout": _layout(look)}


def _layout(look: ChartStyle) -> dict[str, Any]:
    frame = figures.Frame(
        look.x_title, f"{look.x_title}/{look.log}", height=TALL if look.tall else HEIGHT, zoom=look.zoom
    )
    layout: dict[str, Any] = figures.empty(frame).layout.to_plotly_json()
    margin = {"t": 8, "r": 12, "l": 48, "b": 36}
    layout |= {"showlegend": False, "hovermode": "closest", "hoverdistance": 60, "margin": margin}
    if look.share:
        layout["yaxis"] |= {"range": [-0.02, 1.04], "tickformat": ".0%"}
    elif look.log:
        layout["yaxis"] |= {"type": "log"}
    return layout


def _scatter(key: str, x: Floats, y: Floats, colour: str, **rest: Any) -> dict[str, Any]:
    """Return a plotly.js trace."""
    line = {"color": colour} | rest.pop("line")
    ends = {"x": pack_numbers(x.astype(np.float64)), "y": pack_numbers(y.astype(np.float32))}
    return {"type": "scatter", "mode": "lines", "uid": key, "meta": {"key": key}, **ends, "line": line} | rest


def _run(entry: Entry, curve: RunCurve, look: ChartStyle, *, behind: bool) -> dict[str, Any]:
    group = f"<br>{figures.escape_label(entry.label)}" if behind else ""
    return _scatter(
        curve.key,
        curve.points.x,
        curve.points.y,
        entry.colour,
        name=figures.escape_label(curve.label),
        meta={"key": curve.key, "group": entry.key if behind else None},
        mode=_mode(look, curve.points.x),
        line={"dash": "solid" if behind else entry.dash, "width": 1 if behind else 1.8},
        marker={"size": 3 if behind else 5},
        opacity=0.35 if behind else 1.0,
        hovertemplate=f"<b>%{{fullData.name}}</b>{group}<br>{_place(look)}<extra></extra>",
    )


def _mode(look: ChartStyle, x: Floats) -> str:
    return "lines+markers" if look.sparse or len(x) == 1 else "lines"


def _place(look: ChartStyle) -> str:
    return f"{look.x_title} %{{x:,.6~g}}: %{{y:{_form(look)}}}"


def _form(look: ChartStyle) -> str:
    return ".1%" if look.share else ".4~g"


def _raw(entry: Entry, curve: RunCurve) -> dict[str, Any]:
    uid, line = f"{curve.key}/raw", {"width": 1}
    return _scatter(curve.key, *curve.raw, entry.colour, uid=uid, line=line, opacity=0.3, hoverinfo="skip")


def _bands(entry: Entry, together: Band) -> list[dict[str, Any]]:
    """Return the band of a group, one trace per stretch without gaps."""
    return [
        _scatter(
            entry.key,
            np.concatenate([together.x[part], together.x[part][::-1]]),
            np.concatenate([together.high[part], together.low[part][::-1]]),
            entry.colour,
            uid=f"{entry.key}/band{number}",
            line={"width": 0},
            fill="toself",
            fillcolor=figures.with_opacity(entry.colour, 0.18),
            hoverinfo="skip",
        )
        for number, part in enumerate(figures.stretches(np.isfinite(together.low)))
    ]


def _middle(entry: Entry, together: Band, look: ChartStyle) -> list[dict[str, Any]]:
    """Return a group's line: solid where all of its runs have values, dotted where only some have."""
    max_runs = together.n.max(initial=0)
    full = together.n == max_runs
    parts = [(full, entry.dash, "")]
    if not full.all():
        # One point beyond each end, so that the dotted part touches the solid one.
        near = full & (np.roll(~full, 1) | np.roll(~full, -1))
        parts.append((~full | near, "dot", "/fewer"))
    ends = f" (%{{customdata[1]:{_form(look)}}} – %{{customdata[2]:{_form(look)}}})" if max_runs > 1 else ""
    hover = f"<b>%{{fullData.name}}</b><br>{_place(look)}{ends}<br>n = %{{customdata[0]}} of {max_runs}<extra></extra>"
    hover_data = pack_numbers(np.stack([together.n, together.low, together.high], 1).astype(np.float32))
    return [
        _scatter(
            entry.key,
            together.x,
            np.where(mask, together.middle, np.nan),
            entry.colour,
            uid=f"{entry.key}{suffix}",
            name=figures.escape_label(entry.label),
            customdata=hover_data,
            mode=_mode(look, together.x),
            line={"dash": dash, "width": 2.5},
            marker={"size": 6},
            hovertemplate=hover,
        )
        for mask, dash, suffix in parts
    ]
