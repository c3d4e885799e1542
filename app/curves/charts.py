"""The charts of the page: what each draws, its menu, and notes on missing curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import streamlit as st

from app.curves import address, catalogue, figures
from app.curves.axes import SharedAxis
from app.curves.bands import Spread
from app.curves.catalogue import MetricChart
from app.curves.figures import ChartStyle, RunCurve
from app.curves.grouping import Entry
from app.curves.numbers import numbers
from app.curves.rewards import Weights, total, weights_text
from app.shared import data, format, links, status
from app.shared import figures as shared
from app.shared.links import Zoom
from app.shared.live_chart import ClickedPoint, Legend, live_chart
from store.db.rows import Band, RunRow

POINTS, FEWEST, ALL_POINTS = 500, 120, 12_000
"""Maximum and minimum number of points (or ranges) per curve, and their total per chart."""
REWARDS = ("reward", "probe/reward")
MENU = {
    "first": "Move to the front",
    "earlier": "Move earlier",
    "later": "Move later",
    "wide": "Toggle full width",
    "numbers": "Toggle table",
    "remove": "Remove",
}


class ChartsView(NamedTuple):
    """Settings of all charts of the page; `charts` are their keys in order."""

    axis: SharedAxis
    smoothing: float
    log: bool
    spread: Spread
    singles: bool
    zoom: Zoom
    legend: Legend
    charts: list[str]
    recorded: Mapping[str, frozenset[int]]
    weights: Weights | None = None
    """Reward weights under which runs with different weights are compared."""


def draw(entries: Sequence[Entry], view: ChartsView, *, on_point: Callable[[ClickedPoint], None]) -> None:
    """Show the charts that have data in a grid that adapts to the width of the page."""
    wide, tables = (address.read_list(name) or [] for name in ("wide", "numbers"))
    chosen = [(key, catalogue.metric(catalogue.chart(key), view.recorded)) for key in view.charts]
    # A table of numbers does not fit beside other charts.
    placed = [(key, metric, key in {*wide, *tables}) for key, metric in chosen if metric is not None]
    for is_wide, part in _rows(placed):
        with st.grid(1 if is_wide else 3, min_column_width=320, gap="small"):
            for key, metric in part:
                chart = catalogue.chart(key)
                with st.container(border=True, key=f"overlay_{key.encode().hex()}", gap="xxsmall", height="stretch"):
                    _one(chart, metric, entries, view, is_wide, key in tables, on_point)
    absent = [catalogue.chart(key).title for key, metric in chosen if metric is None]
    if absent:
        st.caption(f"Not recorded by any of these runs: {', '.join(map(format.literal, absent))}.")


def _rows(charts: Sequence[tuple[str, str, bool]]) -> list[tuple[bool, list[tuple[str, str]]]]:
    """Return the charts in order, in rows that are either all wide or all narrow."""
    rows: list[tuple[bool, list[tuple[str, str]]]] = []
    for key, metric, is_wide in charts:
        if not rows or rows[-1][0] != is_wide:
            rows.append((is_wide, []))
        rows[-1][1].append((key, metric))
    return rows


def _one(
    chart: MetricChart,
    metric: str,
    entries: Sequence[Entry],
    view: ChartsView,
    is_wide: bool,
    with_numbers: bool,
    on_point: Callable[[ClickedPoint], None],
) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        help_text = " ".join((chart.help, f"Shows {format.literal(metric)}.")).strip()
        st.markdown(
            f"**{format.literal(chart.title)}**", help=help_text if metric != chart.title else None, width="stretch"
        )
        _menu(chart, view.charts)
    entry_curves = curves(metric, entries, view)
    if not any(each for _, each in entry_curves):
        st.caption("These runs have no values in the visible range.")
        return
    look = ChartStyle(
        view.axis.title,
        view.spread,
        view.zoom,
        share=chart.share,
        log=view.log and chart.log,
        sparse=catalogue.is_sparse(metric),
        smoothed=view.smoothing > 0 and not catalogue.is_sparse(metric),
        singles=view.singles,
        tall=is_wide,
    )
    live_chart(
        figures.overlay(entry_curves, look),
        key=f"overlay.{chart.key}",
        alt=takeaway(chart, entry_curves, view.axis.title),
        on_click=on_point,
        on_zoom=links.set_zoom,
        legend=view.legend,
    )
    if metric in REWARDS and view.weights:
        common = format.literal(weights_text(view.weights))
        st.caption(f"These runs have different reward weights; all are rescored with the most common ones: {common}.")
    _missing(metric, entries, entry_curves, view)
    if with_numbers:
        numbers(chart, metric, entry_curves, view.axis)


def curves(metric: str, entries: Sequence[Entry], view: ChartsView) -> list[tuple[Entry, list[RunCurve]]]:
    """Return the curves of each entry on the axis, within the zoom."""
    runs = [run for entry in entries for run in entry.members]
    bands = rescored_bands(runs, metric, view) if metric in REWARDS and view.weights else read(runs, metric, view)
    smoothing = 0.0 if catalogue.is_sparse(metric) else view.smoothing

    def curve_of(run: RunRow) -> RunCurve:
        rolled = bands[run.id]
        last = np.minimum(rolled.step + rolled.width - 1, max(run.step, int(rolled.step[-1])))
        places = (view.axis.place(run.id, rolled.step), view.axis.place(run.id, last))
        return figures.curve(run.uid, run.name, rolled, *places, smoothing)

    return [
        (entry, [curve_of(run) for run in entry.members if len(bands[run.id].step) and view.axis.has(run.id)])
        for entry in entries
    ]


def rescored_bands(runs: Sequence[RunRow], metric: str, view: ChartsView) -> dict[int, Band]:
    """Return the reward of runs with different weights, rescored under the page's definition."""
    weights = view.weights or {}
    parts = {name: read(runs, f"{metric}/{name}", view) for name in weights}
    return {run.id: total({name: bands[run.id] for name, bands in parts.items()}, weights) for run in runs}


def read(runs: Sequence[RunRow], metric: str, view: ChartsView) -> dict[int, Band]:
    """Return the metric of all runs within and slightly beyond the zoom: values, or ranges if there are many."""
    part: dict[str, int] = {"points": min(POINTS, max(FEWEST, ALL_POINTS // len(runs)))}
    # Sparse metrics are read completely: values outside the zoom are needed to draw the lines that enter it.
    if view.zoom is not None and not catalogue.is_sparse(metric):
        first, last = view.axis.steps([run.id for run in runs], *view.zoom)
        margin = max(1, (last - first) // 20)
        part |= {"lo": max(0, first - margin - shared.warm_up(view.smoothing)), "hi": last + margin}
    ended = tuple(run.id for run in runs if run.status not in status.OPEN)
    live = tuple(run.id for run in runs if run.status in status.OPEN)
    bands = data.read_ended_rollups(ended, metric, **part) if ended else {}
    return bands | (data.read_rollups(live, metric, **part) if live else {})


def takeaway(chart: MetricChart, entry_curves: Sequence[tuple[Entry, Sequence[RunCurve]]], x_title: str) -> str:
    """Return `Reward over step, 8 curves: SFT CoT ends highest (2.31), GRPO direct lowest (0.41).`"""
    ends = {
        entry.label: float(np.mean([each.points.y[np.isfinite(each.points.y)][-1:].mean() for each in curves]))
        for entry, curves in entry_curves
        if any(np.isfinite(each.points.y).any() for each in curves)
    }
    best, worst = max(ends, key=lambda label: ends[label]), min(ends, key=lambda label: ends[label])
    summary = f"{chart.title} over {x_title}, {len(ends)} {'curve' if len(ends) == 1 else 'curves'}"
    if len(ends) == 1:
        return f"{summary}: {best} ends at {format.number(ends[best])}."
    return (
        f"{summary}: {best} ends highest ({format.number(ends[best])}), {worst} lowest ({format.number(ends[worst])})."
    )


def _missing(
    metric: str, entries: Sequence[Entry], entry_curves: Sequence[tuple[Entry, Sequence[RunCurve]]], view: ChartsView
) -> None:
    """Name the runs that are missing from the chart, with the reasons."""
    drawn_uids = {curve.key for _, curves in entry_curves for curve in curves}
    absent = [run for entry in entries for run in entry.members if run.uid not in drawn_uids]
    unplaced = [run.name for run in absent if not view.axis.has(run.id)]
    needed = [f"{metric}/{name}" for name in view.weights] if metric in REWARDS and view.weights else [metric]
    unrecorded = [run.name for run in absent if any(run.id not in view.recorded.get(name, ()) for name in needed)]
    sentences = []
    if unrecorded:
        sentences.append(f"Not recorded by {_name_some(unrecorded)}.")
    if unplaced:
        sentences.append(f"Unknown {view.axis.title}: {_name_some(unplaced)}.")
    if sentences:
        st.caption(" ".join(sentences))


def _name_some(names: Sequence[str], limit: int = 3) -> str:
    listed = ", ".join(map(format.literal, names[:limit]))
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit} more"


def _menu(chart: MetricChart, order: Sequence[str]) -> None:
    key = f"menu_{chart.key.encode().hex()}"

    def act() -> None:
        change(str(st.session_state[key]), chart.key, order)

    st.menu_button(
        f"Menu of {format.literal(chart.title)}",
        list(MENU),
        key=key,
        format_func=lambda action: MENU[action],
        on_click=act,
        type="tertiary",
        icon=":material/more_vert:",
    )


def change(action: str, key: str, order: Sequence[str]) -> None:
    """Apply a chart's menu action, which the URL keeps."""
    if action in ("wide", "numbers"):
        listed = address.read_list(action) or []
        other_keys = [each for each in listed if each != key]
        new_keys = other_keys if key in listed else [*other_keys, key]
        links.go(action, **({action: address.join(new_keys)} if new_keys else {}))
        return
    links.go(charts=address.join(move_chart(action, key, order)))


def move_chart(action: str, key: str, order: Sequence[str]) -> list[str]:
    """Return the order of the charts after one of them has been moved or removed."""
    place, rest = list(order).index(key), [each for each in order if each != key]
    if action == "remove":
        return rest
    to = {"first": 0, "earlier": max(0, place - 1), "later": place + 1}[action]
    return [*rest[:to], key, *rest[to:]]
