"""Plotly figures from numpy arrays. Pure functions.

The component that draws them sets background, text and grid colours by the page's theme. Methods differ by colour and
by dash. Missing values (NaN) are gaps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

Floats = npt.NDArray[np.floating[Any]]

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    "#8A93A0",
)
PALETTE = (GREEN, ORANGE, PURPLE, SKY, GREY)
"""Okabe and Ito's colours without those of the methods, and without black and yellow, which vanish in one theme."""
REPLACED = {"light": {ORANGE: "#C88400", SKY: "#2E9BD6"}, "dark": {BLUE: "#3A9BDC"}}
"""What is shown instead of colours that stand out from a theme's page by less than 3 to 1 (WCAG 1.4.11)."""
METHOD_STYLE = {"grpo": (BLUE, "solid"), "sft": (VERMILLION, "dash"), "none": (GREY, "dot")}
"""Colour and dash of each of our methods."""
OTHER_STYLE = (PURPLE, "dashdot")
"""Colour and dash of every other method that a script may have."""
SYMBOLS = ("circle", "square", "diamond", "x")
"""Markers of a method's groups."""
FAMILIES = {
    BLUE: (BLUE, SKY, "#7A6FD0"),
    VERMILLION: (VERMILLION, ORANGE, "#A6761D"),
    GREY: (GREY, "#B9A58C", "#6F8F8A"),
}
"""Colours of a method's groups, by the colour of the method."""
VISIBLE = {False: (0.0, 0.5), True: (0.4, 1.0)}
"""Part of the colour scale whose lines stand out by 3 to 1 from a light page, and from a dark one."""


def method_style(method: str) -> tuple[str, str]:
    """Return colour and dash of a method."""
    return METHOD_STYLE.get(method, OTHER_STYLE)


def group_style(method: str, place: int) -> tuple[str, str, str]:
    """Return colour, dash and marker of a method's group, which is the `place`-th of it in the same chart.

    The first one looks like the method itself; the colours of one method belong together.
    """
    colour, dash = method_style(method)
    family = FAMILIES.get(colour, (colour,))
    return family[place % len(family)], dash if place < len(family) else "dot", SYMBOLS[place % len(SYMBOLS)]


def scale(*, dark: bool) -> list[str]:
    """Return the colours of results, low to high, that stand out from the page."""
    return [str(each) for each in sample_colorscale("Viridis", np.linspace(*VISIBLE[dark], 9).tolist())]


class Line(NamedTuple):
    """A curve: `x` and `y` of equal length, NaN for missing values.

    `low` and `high` bound an interval around y; `sparse` lines are few measurements: marked, never smoothed. `dim` ones
    are drawn behind the others, for comparison.
    """

    name: str
    x: Floats
    y: Floats
    color: str = BLUE
    dash: str = "solid"
    low: Floats | None = None
    high: Floats | None = None
    sparse: bool = False
    dim: bool = False


class Mark(NamedTuple):
    """An event at x; `text` is shown on hover."""

    x: float
    sign: str
    text: str
    color: str = GREY


class Frame(NamedTuple):
    """Settings shared by a page's charts. While `revision` is the same, a redraw keeps zoom and pan."""

    x_title: str = "step"
    revision: str = ""
    marks: Sequence[Mark] = ()
    cursor: float | None = None
    """Position of the user's cursor on the x axis."""
    height: int = 260
    """Pixels."""
    zoom: tuple[float, float] | None = None
    """Range of the x axis that all charts of the page show; None for all of it."""


PLAIN = Frame()
WITH_LEGEND, WITHOUT_LEGEND = 30, 18
"""Margins in pixels above a chart; the signs of events are drawn there, too."""
MOST_SLOTS = 4
"""A curve is smoothed on an even grid if the grid has at most this many slots per value."""
NEGLIGIBLE = 1e-12
"""Weights of past values below this are ignored."""


def smooth(x: Floats, y: Floats, weight: float) -> Floats:
    """Return a debiased exponential moving average; NaN stays NaN and does not affect its neighbours.

    `weight` in [0, 1) is the factor by which past values decay per unit of x, so thinning a curve keeps its smoothness.
    """
    if weight <= 0:
        return y
    result = np.full(len(y), np.nan)
    finite = np.flatnonzero(~np.isnan(y))
    if len(finite) < 2:
        result[finite] = y[finite]
        return result
    places, values = x[finite], y[finite]
    gaps = np.diff(places)
    size = float(gaps.min())
    slots = np.rint((places - places[0]) / size).astype(int) if size > 0 else np.empty(0, int)
    is_even = size > 0 and slots[-1] < MOST_SLOTS * len(finite) and np.allclose(slots * size, places - places[0])
    result[finite] = _smooth_even(slots, values, weight**size) if is_even else _smooth_uneven(gaps, values, weight)
    return result


def _smooth_even(slots: npt.NDArray[np.int64], values: Floats, decay: float) -> Floats:
    """Return the average of values in some slots of an even grid; past values decay by `decay` per slot.

    Uses one convolution: a Python loop takes thirty times as long, which is noticeable with fifty runs.
    """
    reach = min(slots[-1] + 1, math.ceil(math.log(NEGLIGIBLE) / math.log(decay))) if decay > NEGLIGIBLE else 1
    kernel = decay ** np.arange(reach)
    filled, sums = np.zeros(slots[-1] + 1), np.zeros(slots[-1] + 1)
    # Relative to the first value, so that equal values stay exactly equal.
    filled[slots], sums[slots] = 1.0, values - values[0]
    mass, mean = (np.convolve(each, kernel)[slots] for each in (filled, sums))
    return np.asarray(values[0] + mean / mass)


def _smooth_uneven(gaps: Floats, values: Floats, weight: float) -> Floats:
    mean, mass = float(values[0]), 1 - weight
    means = [mean]
    for gap, value in zip(gaps.tolist(), values[1:].tolist(), strict=True):
        mass = weight ** max(gap, 0.0) * mass + (1 - weight)
        mean += (1 - weight) / mass * (value - mean)
        means.append(mean)
    return np.array(means)


def line_chart(
    lines: Sequence[Line], frame: Frame = PLAIN, *, smoothing: float = 0.0, log: bool = False, share: bool = False
) -> go.Figure:
    """Return lines over one x axis: dim raw values behind smoothed ones, intervals as bands, marks as dotted lines.

    `share` fixes the y axis to 0–100 %, even with `log`.
    """
    figure = empty(frame)
    for line in lines:
        if line.low is not None and line.high is not None:
            figure.add_traces(_band(line))
        is_smoothed = smoothing > 0 and not line.sparse
        if is_smoothed and not line.dim:
            figure.add_trace(_raw(line))
        figure.add_trace(_curve(line, smooth(line.x, line.y, smoothing) if is_smoothed else line.y, share))
    has_legend = len(lines) > 1 or any(line.sparse for line in lines)
    figure.update_layout(showlegend=has_legend, margin={} if has_legend else {"t": WITHOUT_LEGEND})
    if share:
        figure.update_yaxes(range=[-0.02, 1.04], tickformat=".0%")
    elif log:
        figure.update_yaxes(type="log", dtick=1)
    elif (level := _constant(lines)) is not None:
        figure.update_yaxes(range=[0, 2 * level] if level > 0 else [-0.05, 1] if level == 0 else [2 * level, 0])
    return figure


def _constant(lines: Sequence[Line]) -> float | None:
    """Return the value of all lines if it is always the same: an automatic axis would show it as zero."""
    values = np.unique(np.concatenate([line.y[np.isfinite(line.y)] for line in lines])) if lines else np.empty(0)
    return float(values[0]) if len(values) == 1 else None


def stacked_chart(lines: Sequence[Line], frame: Frame = PLAIN, *, smoothing: float = 0.0) -> go.Figure:
    """Return the lines as parts of a whole, stacked in the given order."""
    figure = empty(frame)
    for line in lines:
        trace = _curve(line, smooth(line.x, line.y, smoothing), share=False)
        figure.add_trace(trace.update(stackgroup="all", line={"width": 0.5}, fillcolor=with_opacity(line.color, 0.55)))
    figure.update_layout(showlegend=True)
    figure.update_yaxes(rangemode="tozero")
    return figure


class Bars(NamedTuple):
    """Bars at whole numbers: `x` and `y` of equal length."""

    name: str
    x: Sequence[int]
    y: Sequence[float]
    color: str = BLUE


def bar_chart(
    groups: Sequence[Bars], frame: Frame = PLAIN, *, last: int, stacked: bool = False, share: bool = False
) -> go.Figure:
    """Return bars of several groups, side by side or stacked; x values beyond `last` are added up as `last+`.

    `share` shows each group's bars as shares of its own sum.
    """
    figure = empty(frame)
    for group in groups:
        heights = (
            np.bincount(np.minimum(group.x, last), weights=group.y, minlength=last + 1) if group.x else np.zeros(0)
        )
        if share and heights.sum():
            heights = heights / heights.sum()
        form = ".1%" if share else ","
        figure.add_trace(
            go.Bar(
                uid=group.name,
                name=escape_label(group.name),
                x=np.arange(len(heights)),
                y=heights,
                marker={"color": group.color},
                hovertemplate=f"%{{y:{form}}}",
            )
        )
    ticks = [*range(0, last, max(1, last // 10)), last]
    is_cut = any(x > last for group in groups for x in group.x)
    labels = [*map(str, ticks[:-1]), f"{last}+" if is_cut else str(last)]
    figure.update_layout(barmode="stack" if stacked else "group", showlegend=len(groups) > 1 or stacked, bargap=0.15)
    figure.update_xaxes(tickvals=ticks, ticktext=labels, tickangle=0, range=[-0.6, last + 0.6], showgrid=False)
    figure.update_yaxes(rangemode="tozero", tickformat=".0%" if share else ",")
    return figure


def warm_up(smoothing: float) -> int:
    """Return the number of steps after which the start of a smoothed curve weighs at most a hundredth."""
    return 0 if smoothing <= 0 else math.ceil(math.log(0.01) / math.log(smoothing))


def empty(frame: Frame) -> go.Figure:
    """Return the axes, marks and cursor of a frame, without data."""
    uprights = [(mark.x, mark.color, "dot", 1.0) for mark in frame.marks]
    if frame.cursor is not None:
        uprights.append((frame.cursor, GREY, "solid", 2.0))
    return go.Figure(
        layout=go.Layout(
            template=go.layout.Template(),
            height=frame.height,
            margin={"l": 48, "r": 12, "t": WITH_LEGEND, "b": 36},
            hovermode="x unified",
            dragmode="zoom",
            uirevision=frame.revision,
            legend={"orientation": "h", "x": 0, "y": 1.06, "yanchor": "bottom", "uirevision": "kept"},
            xaxis={
                "title": {"text": frame.x_title, "standoff": 6},
                "zeroline": False,
                "nticks": 8,
                "rangemode": "tozero",
                # The page's zoom overrides this chart's own zoom, but not its y axis.
                "range": frame.zoom,
                "uirevision": f"{frame.revision}/{frame.zoom}" if frame.revision else None,
            },
            yaxis={"zeroline": False, "nticks": 6, "exponentformat": "power"},
            shapes=[
                {
                    "type": "line",
                    "yref": "paper",
                    "y0": 0,
                    "y1": 1,
                    "x0": x,
                    "x1": x,
                    "layer": "below",
                    "line": {"color": color, "dash": dash, "width": width},
                }
                for x, color, dash, width in uprights
            ],
            annotations=[
                {
                    "x": mark.x,
                    "y": 1,
                    "yref": "paper",
                    "yanchor": "bottom",
                    "showarrow": False,
                    "text": mark.sign,
                    "hovertext": escape_label(mark.text),
                    "font": {"size": 11},
                }
                for mark in frame.marks
            ],
        )
    )


def _curve(line: Line, y: Floats, share: bool) -> go.Scatter:
    value = "%{y:.1%}" if share else "%{y:.4~g}"
    ends = None
    if line.low is not None and line.high is not None:
        ends = np.stack([line.low, line.high], axis=1)
        form = ".1%" if share else ".4~g"
        value += f" (%{{customdata[0]:{form}}} – %{{customdata[1]:{form}}})"
    return go.Scatter(
        uid=line.name,
        name=escape_label(line.name),
        legendgroup=line.name,
        x=line.x,
        y=y,
        customdata=ends,
        mode="lines+markers" if line.sparse else "lines",
        line={"color": line.color, "dash": line.dash, "width": 2},
        marker={"size": 6, "color": line.color},
        opacity=0.35 if line.dim else 1.0,
        hovertemplate=value,
        connectgaps=False,
        cliponaxis=not line.sparse,
    )


def _raw(line: Line) -> go.Scatter:
    return go.Scatter(
        uid=f"{line.name}/raw",
        legendgroup=line.name,
        showlegend=False,
        x=line.x,
        y=line.y,
        mode="lines",
        opacity=0.4,
        line={"color": line.color, "width": 1},
        hoverinfo="skip",
    )


def _band(line: Line) -> list[go.Scatter]:
    """Return the interval, drawn under its line; a gap in y is a gap in the band."""
    assert line.low is not None and line.high is not None
    bands = []
    for number, part in enumerate(stretches(np.isfinite(line.low) & np.isfinite(line.high))):
        x = np.concatenate([line.x[part], line.x[part][::-1]])
        y = np.concatenate([line.high[part], line.low[part][::-1]])
        bands.append(
            go.Scatter(
                uid=f"{line.name}/band{number}",
                legendgroup=line.name,
                showlegend=False,
                x=x,
                y=y,
                mode="lines",
                line={"width": 3 if len(x) == 2 else 0, "color": with_opacity(line.color, 0.45)},
                fill="toself",
                fillcolor=with_opacity(line.color, 0.18),
                hoverinfo="skip",
            )
        )
    return bands


def stretches(mask: npt.NDArray[np.bool_]) -> list[slice]:
    """Return slices of consecutive True values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [slice(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def with_opacity(color: str, opacity: float) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def escape_label(text: str) -> str:
    """Escape the HTML that Plotly interprets in labels, so that names and messages are shown literally."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
