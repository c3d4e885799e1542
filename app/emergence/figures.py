"""The chart of a run's emergence: rows of curves over one shared step axis. Pure functions of arrays.

Rows share the axis, so that zoom, hover and cursor apply to all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from app.shared.figures import BLUE, GREY, Floats, Mark, escape_label, smooth, with_opacity

ROW_PIXELS, GAP_PIXELS, BOTTOM_PIXELS = 112, 58, 44
FIRST_FLAG, FLAG_PIXELS = 40, 16
SMOOTHING = 0.75


class EmergenceCurve(NamedTuple):
    """`dotted` curves belong to the overlaid run; `sparse` ones are measured only at some steps and never smoothed."""

    name: str
    x: Floats
    y: Floats
    color: str
    dotted: bool = False
    sparse: bool = False


class Heat(NamedTuple):
    """Shares by value at each x: `z` has the shape (values, x); `y` are the values."""

    x: Floats
    y: Floats
    z: Floats
    name: str


class Row(NamedTuple):
    """A row of the chart; `kind` is `share` (0 to 100 %), `number`, or `stacked` parts."""

    title: str
    curves: Sequence[EmergenceCurve]
    kind: str = "number"
    heat: Heat | None = None
    tall: float = 1.0
    """Height in units of an ordinary row."""


def emergence_chart(rows: Sequence[Row], marks: Sequence[Mark], *, cursor: float | None, revision: str) -> go.Figure:
    """Return the rows over one axis; marks are drawn as flags at the top and dotted lines through all rows."""
    heights = [row.tall * ROW_PIXELS for row in rows]
    total = sum(heights) + GAP_PIXELS * (len(rows) - 1)
    above = FIRST_FLAG + FLAG_PIXELS * len(marks) + 8
    figure = go.Figure(layout=_layout(int(total), above, revision))
    top = total
    for number, (row, height) in enumerate(zip(rows, heights, strict=True), start=1):
        axis = f"y{number if number > 1 else ''}"
        figure.update_layout({axis.replace("y", "yaxis"): _y_axis(row, (top - height) / total, top / total)})
        figure.add_traces(_traces(row, axis))
        figure.add_annotation(
            text=_heading(row),
            xref="paper",
            yref="paper",
            x=0,
            y=top / total,
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            align="left",
            yshift=2,
            font={"size": 12},
        )
        top -= height + GAP_PIXELS
    _flags(figure, marks, cursor)
    return figure


def _layout(height: int, above: int, revision: str) -> go.Layout:
    return go.Layout(
        template=go.layout.Template(),
        height=height + above + BOTTOM_PIXELS,
        margin={"l": 48, "r": 12, "t": above, "b": BOTTOM_PIXELS},
        hovermode="x unified",
        # The hover line crosses all rows, but its label covers one: a label for all would hide half of them.
        dragmode="zoom",
        uirevision=revision,
        showlegend=False,
        xaxis={
            "title": {"text": "step", "standoff": 6},
            "zeroline": False,
            "nticks": 10,
            "anchor": "free",
            "position": 0,
        },
    )


def _y_axis(row: Row, low: float, high: float) -> dict[str, object]:
    axis: dict[str, object] = {
        "domain": [max(0.0, low), min(1.0, high)],
        "anchor": "x",
        "zeroline": False,
        "nticks": 5,
        "fixedrange": True,
        "rangemode": "tozero",
    }
    if row.kind == "share":
        axis |= {"range": [-0.02, 1.04], "tickformat": ".0%"}
    if row.kind == "stacked share":
        axis |= {"range": [0, 1], "tickformat": ".0%"}
    return axis


def _heading(row: Row) -> str:
    """Return the title and the curves' names behind their colours, as a legend that needs no extra space."""
    marker = "▪" if row.kind.startswith("stacked") else "━"
    names = [
        f'<span style="color:{curve.color}">{marker}</span> {escape_label(curve.name)}'
        for curve in row.curves
        if not curve.dotted
    ]
    return f"<b>{escape_label(row.title)}</b><br>" + "  ".join(names)


def _traces(row: Row, axis: str) -> list[go.Scatter | go.Heatmap]:
    traces: list[go.Scatter | go.Heatmap] = []
    if row.heat is not None:
        traces.append(_heat(row.heat, axis))
    for curve in row.curves:
        traces += _stacked(curve, axis, row.kind) if row.kind.startswith("stacked") else _lines(curve, axis, row.kind)
    return traces


def _heat(heat: Heat, axis: str) -> go.Heatmap:
    """Return a heat map with a transparent zero, scaled by the root of the share so that rare values are visible."""
    return go.Heatmap(
        uid=f"{axis}/heat",
        name=escape_label(heat.name),
        x=heat.x,
        y=heat.y,
        z=np.sqrt(heat.z),
        customdata=heat.z,
        yaxis=axis,
        colorscale=[[0, with_opacity(BLUE, 0.0)], [1, with_opacity(BLUE, 0.95)]],
        zmin=0,
        zmax=1,
        showscale=False,
        hoverinfo="skip",
    )


def _lines(curve: EmergenceCurve, axis: str, kind: str) -> list[go.Scatter]:
    form = ".1%" if kind == "share" else ".3~g"
    smoothed = curve.y if curve.sparse else smooth(curve.x, curve.y, SMOOTHING)
    line = go.Scatter(
        uid=f"{axis}/{curve.name}",
        name=escape_label(curve.name),
        x=curve.x,
        y=smoothed,
        yaxis=axis,
        mode="lines+markers" if curve.sparse else "lines",
        line={"color": curve.color, "width": 2, "dash": "dot" if curve.dotted else "solid"},
        marker={"size": 6, "color": curve.color, "symbol": "diamond-open" if curve.dotted else "diamond"},
        opacity=0.75 if curve.dotted else 1.0,
        hovertemplate=f"%{{y:{form}}}",
        connectgaps=False,
    )
    if curve.sparse or curve.dotted:
        return [line]
    raw = go.Scatter(
        uid=f"{axis}/{curve.name}/raw",
        x=curve.x,
        y=curve.y,
        yaxis=axis,
        mode="lines",
        opacity=0.25,
        line={"color": curve.color, "width": 1},
        hoverinfo="skip",
    )
    return [raw, line]


def _stacked(curve: EmergenceCurve, axis: str, kind: str) -> list[go.Scatter]:
    form = ".0%" if kind == "stacked share" else ".2~f"
    return [
        go.Scatter(
            uid=f"{axis}/{curve.name}",
            name=escape_label(curve.name),
            x=curve.x,
            y=smooth(curve.x, curve.y, SMOOTHING),
            yaxis=axis,
            mode="lines",
            stackgroup=axis,
            stackgaps="interpolate",
            line={"color": curve.color, "width": 0.5},
            fillcolor=with_opacity(curve.color, 0.6),
            hovertemplate=f"%{{y:{form}}}",
        )
    ]


def _flags(figure: go.Figure, marks: Sequence[Mark], cursor: float | None) -> None:
    lines = [(mark.x, mark.color, "dot", 1.2) for mark in marks]
    if cursor is not None:
        lines.append((cursor, GREY, "solid", 2.0))
    for x, color, dash, width in lines:
        line = {"color": color, "dash": dash, "width": width}
        figure.add_shape(type="line", xref="x", yref="paper", x0=x, x1=x, y0=0, y1=1, line=line, layer="below")
    for level, mark in enumerate(marks):
        figure.add_annotation(
            text=f'<span style="color:{mark.color}">⚑</span> {escape_label(mark.sign)}',
            hovertext=escape_label(mark.text),
            xref="x",
            yref="paper",
            x=mark.x,
            y=1,
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            yshift=FIRST_FLAG + FLAG_PIXELS * level,
        )
