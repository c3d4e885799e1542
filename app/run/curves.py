"""The live curves of one run, with their controls. A click puts the step into the URL; new data keep the zoom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app.run.axis import Axis, Kind, axis, step_at
from app.run.charts import Chart, MetricCurve
from app.shared import data, figures, format, links
from app.shared.live_chart import ClickedPoint, live_chart
from store.db.rows import Clock, EventRow, RunDetail, Series
from trainer.spec import checkpoint

POINTS = 500
SIGNS = {
    "resumed": ("↻", "resumed", figures.BLUE),
    "best": ("★", "best checkpoint", figures.GREEN),
    "stopped": ("■", "stopped", figures.ORANGE),
    "failed": ("✕", "failed", figures.VERMILLION),
    "out_of_memory": ("✕", "out of memory", figures.VERMILLION),
    "killed": ("✕", "killed", figures.VERMILLION),
    "lost": ("✕", "lost", figures.VERMILLION),
    "recording_failed": ("!", "recording failed", figures.VERMILLION),
}
"""Event kinds that are drawn, with symbol, label and colour; of `best` events, only the last is drawn."""


class Parent(NamedTuple):
    """The run that this one branched from; its curves are drawn dim, with the branching step at this run's start."""

    id: int
    name: str
    step: int
    axis: Axis
    """Its own clock."""

    def place(self, step: np.ndarray, along: Axis) -> np.ndarray:
        """Return the positions of its steps on the branch's axis; those before the branching step are negative."""
        return (self.axis.place(step) - self.axis.place(self.step)) * self.axis.unit / along.unit


class CurvesView(NamedTuple):
    """Settings of all curves of the page."""

    axis: Axis
    smoothing: float
    log: bool
    marks: Sequence[figures.Mark]
    cursor: int | None
    parent: Parent | None = None
    zoom: links.Zoom = None


def controls() -> tuple[Kind, float, bool]:
    """Show and return the x axis, the smoothing and whether the scale is logarithmic."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        kind: Kind = st.segmented_control(
            "X axis",
            ["step", "time", "tokens"],
            default="step",
            key="axis",
            required=True,
            bind="query-params",
            on_change=lambda: links.go("zoom"),
        )
        smoothing = st.slider(
            "Smoothing",
            0.0,
            0.99,
            0.6,
            key="smoothing",
            bind="query-params",
            width=220,
            help="Weight of past values in the moving average; the raw values stay visible behind it. "
            "Evaluations and probes are never smoothed.",
        )
        log = st.toggle(
            "Log scale",
            key="log",
            bind="query-params",
            help="Applies to loss, lengths, entropy, KL, gradient norm, learning rate and time.",
        )
    return kind, float(smoothing), bool(log)


def draw(run: RunDetail, charts: Sequence[Chart], view: CurvesView, *, on_step: Callable[[int], None]) -> None:
    """Show all charts in a grid that adapts to the width of the page."""
    names = sorted({name for chart in charts for name in chart.metrics})
    series = read(run.id, charts, view)
    before = data.read_series(view.parent.id, names, points=POINTS) if view.parent else {}
    with st.grid(3, min_column_width=320, gap="small"):
        for chart in charts:
            with st.container(border=True, key=f"chart_{chart.key}", gap="xxsmall", height="stretch"):
                st.markdown(f"**{format.literal(chart.title)}**", help=chart.help or None)
                present = [curve for curve in chart.curves if has_values(series, curve)]
                if not present:
                    st.caption(chart.empty)
                    continue
                live_chart(
                    figure(run, chart, present, series, view, before),
                    key=f"curves_{run.uid}_{chart.key}",
                    alt=takeaway(chart, present, series),
                    on_click=lambda point: on_step(clicked_step(point, view.axis)),
                    on_zoom=links.set_zoom,
                )


def read(run_id: int, charts: Sequence[Chart], view: CurvesView) -> dict[str, Series]:
    """Return the metrics of the charts within and slightly beyond the zoom; sparse ones completely."""
    seldom = {name for chart in charts for curve in chart.curves if curve.sparse for name in curve.metrics}
    often = {name for chart in charts for name in chart.metrics} - seldom
    part: dict[str, int] = {}
    if view.zoom is not None:
        first, last = (view.axis.step(end) for end in view.zoom)
        margin = max(1, (last - first) // 20)
        part = {"lo": max(0, first - margin - figures.warm_up(view.smoothing)), "hi": last + margin}
    within = data.read_series(run_id, sorted(often), points=POINTS, **part)
    return within | data.read_series(run_id, sorted(seldom), points=POINTS)


def clicked_step(point: ClickedPoint, along: Axis) -> int:
    return along.step(point.x)


def has_values(series: Mapping[str, Series], curve: MetricCurve) -> bool:
    return curve.metric in series and bool(np.isfinite(series[curve.metric].value).any())


def figure(
    run: RunDetail,
    chart: Chart,
    present: Sequence[MetricCurve],
    series: Mapping[str, Series],
    view: CurvesView,
    before: Mapping[str, Series],
) -> go.Figure:
    """Return one chart; `before` are the curves of the view's parent."""
    colours = palette(run.method, chart)
    lines = [line(curve, series, view.axis, colours[chart.curves.index(curve)]) for curve in present]
    cursor = None if view.cursor is None else float(view.axis.place(view.cursor))
    frame = figures.Frame(
        view.axis.title, f"{view.axis.title}/{view.log and chart.log}", view.marks, cursor, zoom=view.zoom
    )
    if chart.parts == "stacked":
        return figures.stacked_chart(lines, frame, smoothing=view.smoothing)
    if view.parent is not None:
        parent_curves = [curve for curve in present if has_values(before, curve)]
        lines = [
            *(dim_line(curve, before, view, colours[chart.curves.index(curve)]) for curve in parent_curves),
            *lines,
        ]
    return figures.line_chart(lines, frame, smoothing=view.smoothing, log=view.log and chart.log, share=chart.share)


def palette(method: str, chart: Chart) -> list[str]:
    """Return a colour for each curve of a chart: the method's for the first, unless the curves are parts of a whole."""
    method_colour, _ = figures.method_style(method)
    colours = figures.PALETTE if chart.parts else (method_colour, *figures.PALETTE)
    return [colours[i % len(colours)] for i in range(len(chart.curves))]


def line(curve: MetricCurve, series: Mapping[str, Series], along: Axis, colour: str) -> figures.Line:
    curve_series = series[curve.metric]
    low, high = (bound(series, name, curve_series) for name in curve.band or (None, None))
    places = along.place(curve_series.step)
    return figures.Line(curve.label, places, curve_series.value, colour, low=low, high=high, sparse=curve.sparse)


def dim_line(curve: MetricCurve, before: Mapping[str, Series], view: CurvesView, colour: str) -> figures.Line:
    assert view.parent is not None
    curve_series, name = before[curve.metric], f"{curve.label}, {view.parent.name}"
    return figures.Line(
        name, view.parent.place(curve_series.step, view.axis), curve_series.value, colour, sparse=curve.sparse, dim=True
    )


def bound(series: Mapping[str, Series], name: str | None, bounded: Series) -> np.ndarray | None:
    """Return a bounding metric at the steps of the bounded one."""
    if name is None or name not in series:
        return None
    at = dict(zip(series[name].step.tolist(), series[name].value.tolist(), strict=True))
    return np.array([at.get(step, np.nan) for step in bounded.step.tolist()])


def takeaway(chart: Chart, present: Sequence[MetricCurve], series: Mapping[str, Series]) -> str:
    """Return `Reward: reward 0.41 at step 1, 2.31 at step 170.`"""
    parts = []
    for curve in present:
        step, value = series[curve.metric].step, series[curve.metric].value
        finite = np.flatnonzero(np.isfinite(value))
        first, last = finite[0], finite[-1]
        parts.append(
            f"{curve.label} {format.number(value[first])} at step {step[first]}, "
            f"{format.number(value[last])} at step {step[last]}"
        )
    return f"{chart.title}: {'; '.join(parts)}."


def marks(events: Sequence[EventRow], clock: Clock, along: Axis) -> list[figures.Mark]:
    """Return the run's events on its axis; an event without a step is placed at the last step before it."""
    last_best = max((event.id for event in events if event.kind == "best"), default=None)
    event_marks = []
    for event in events:
        if event.kind not in SIGNS or (event.kind == "best" and event.id != last_best):
            continue
        sign, word, colour = SIGNS[event.kind]
        step = event.step if event.step is not None else step_at(clock, event.at)
        event_marks.append(figures.Mark(float(along.place(step)), sign, f"step {step}: {word}", colour))
    return event_marks


def parent_of(run: RunDetail, kind: Kind) -> Parent | None:
    """Return the run that this one branched from, if it still exists; `kind` is that of its axis."""
    adapter = str((run.config.get("model") or {}).get("adapter") or "")
    reference = checkpoint.parse(adapter)
    parent = next((row for row in data.list_run_heads() if row.id == run.parent_id and row.uid == reference.run), None)
    if parent is None or reference.step is None:
        return None
    return Parent(parent.id, parent.name, reference.step, axis(kind, data.read_clock(parent.id)))


def view(run: RunDetail, cursor: int | None) -> CurvesView:
    """Show the controls, and read what else the curves need."""
    kind, smoothing, log = controls()
    data.reader()
    clock = data.read_clock(run.id)
    along = axis(kind, clock)
    event_marks = marks(data.list_events(run.id), clock, along)
    parent = parent_of(run, "step" if along.title == "step" else kind)
    return CurvesView(along, smoothing, log, event_marks, cursor, parent, links.zoom())
