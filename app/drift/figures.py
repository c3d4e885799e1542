"""Figures of style drift. Pure functions of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from app.drift.curves import SimilarityCurve
from app.shared.figures import GREY, PALETTE, Frame, Line, escape_label, line_chart, method_style, scale
from app.shared.paths import Path, paths
from store.db.rows import RunRow

Floats = NDArray[np.float64]
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star")


class Trained(NamedTuple):
    """Curves of one run over its checkpoints."""

    name: str
    color: str
    dash: str
    similarity: SimilarityCurve
    accuracy: SimilarityCurve


class Cloud(NamedTuple):
    """Points of one kind: positions `at` (n, 2), the ids of their predictions, and hover texts."""

    name: str
    at: Floats
    ids: Sequence[int]
    words: Sequence[str]
    color: str | None = None
    """None if `shade` colours each point."""
    shade: Floats | None = None


CLEAR = 0.07
"""Minimum distance in the plane between two labelled steps."""


def similarity_chart(runs: Sequence[Trained], levels: Mapping[str, float]) -> go.Figure:
    """Return mean similarity with its spread, and accuracy (dotted); `levels` are named horizontal lines."""
    lines = []
    for run in runs:
        near, right = run.similarity, run.accuracy
        lines.append(Line(run.name, near.step, near.mean, run.color, run.dash, near.low, near.high, sparse=True))
        lines.append(Line(f"{run.name}, right", right.step, right.mean, run.color, "dot"))
    figure = line_chart(lines, Frame(height=300))
    for name, level in levels.items():
        figure.add_hline(level, line={"color": GREY, "dash": "longdash", "width": 1}, layer="below")
        figure.add_annotation(
            x=1,
            xref="paper",
            xanchor="right",
            y=level,
            yanchor="bottom",
            text=escape_label(f"{name} {level:.2f}"),
            showarrow=False,
            font={"size": 11},
        )
    for line in figure.data:
        if line.line.dash == "dot":
            line.update(line={"width": 1.2}, hovertemplate="%{y:.1%}")
    figure.update_yaxes(range=[-0.05, 1.06])
    return figure


def accuracy_plane(runs: Sequence[tuple[Path, str]], levels: Mapping[str, float]) -> go.Figure:
    """Return accuracy against similarity: one path per run in its colour, labelled with steps where there is room.

    `levels` are named vertical lines.
    """
    figure = paths([path for path, _ in runs])
    for trace, (path, color) in zip(figure.data, runs, strict=True):
        trace.update(line={"color": color}, marker={"color": color})
        labelled = _labelled_points(path)
        figure.add_trace(
            go.Scatter(
                uid=f"{path.name}/steps",
                legendgroup=path.name,
                showlegend=False,
                mode="text",
                x=[path.similarity[i] for i in labelled],
                y=[path.accuracy[i] for i in labelled],
                text=[str(path.steps[i]) for i in labelled],
                textposition="middle right",
                textfont={"size": 10},
                hoverinfo="skip",
            )
        )
    for name, level in levels.items():
        figure.add_vline(level, line={"color": GREY, "dash": "longdash", "width": 1}, layer="below")
        figure.add_annotation(
            x=level,
            y=0,
            yref="paper",
            xanchor="right",
            yanchor="bottom",
            textangle=-90,
            text=escape_label(f"{name} {level:.2f}"),
            showarrow=False,
            font={"size": 11},
        )
    return figure.update_layout(height=340)


def scatter(
    clouds: Sequence[Cloud], references: Floats, explained: Floats, *, shaded: str = "", dark: bool = False
) -> go.Figure:
    """Return the clouds, drawn above the references (m, 2), which are rings.

    `explained` (2,) is shown on the axes, `shaded` names the colour scale; a point's `customdata` is its id.
    """
    figure = go.Figure()
    shades = np.concatenate([cloud.shade for cloud in clouds if cloud.shade is not None] or [np.zeros(1)])
    for number, cloud in enumerate(clouds):
        marker = {"size": 6, "symbol": SYMBOLS[number % len(SYMBOLS)], "color": cloud.color}
        if cloud.shade is not None:
            bounds = {"cmin": float(np.nanmin(shades)), "cmax": float(np.nanmax(shades)), "showscale": number == 0}
            bar = {"title": {"text": escape_label(shaded)}, "thickness": 12}
            marker |= {"color": cloud.shade, "colorscale": scale(dark=dark), "colorbar": bar, **bounds}
        figure.add_trace(
            go.Scatter(
                name=escape_label(cloud.name),
                x=cloud.at[:, 0],
                y=cloud.at[:, 1],
                customdata=list(cloud.ids),
                text=[escape_label(text) for text in cloud.words],
                mode="markers",
                marker=marker,
                hovertemplate="%{text}<extra></extra>",
            )
        )
    figure.add_trace(
        go.Scatter(
            name="references",
            x=references[:, 0],
            y=references[:, 1],
            mode="markers",
            marker={"color": GREY, "size": 7, "symbol": "circle-open", "line": {"width": 1}},
            hovertemplate="reference<extra></extra>",
        )
    )
    titles = [
        f"{name} axis, {share:.0%} of the variance" for name, share in zip(("first", "second"), explained, strict=True)
    ]
    return figure.update_layout(
        height=520,
        margin={"l": 48, "r": 12, "t": 40, "b": 40},
        hovermode="closest",
        dragmode="select",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        xaxis={"title": {"text": titles[0]}, "zeroline": False},
        yaxis={"title": {"text": titles[1]}, "zeroline": False},
    )


def colors(runs: Sequence[RunRow]) -> dict[int, str]:
    """Return colours by run id: the first run of a method has the method's colour, others cycle through the palette."""
    color_by_run: dict[int, str] = {}
    free = [color for color in PALETTE if color != GREY]
    for run in runs:
        method_color, _ = method_style(run.method)
        color_by_run[run.id] = (
            method_color if method_color not in color_by_run.values() else free[len(color_by_run) % len(free)]
        )
    return color_by_run


def _labelled_points(path: Path) -> list[int]:
    """Return the indices of the last point, the first one, and those in between that are far enough from the others."""
    at = np.column_stack([path.similarity, path.accuracy])
    indices: list[int] = []
    for i in (len(at) - 1, *range(len(at) - 1)):
        if all(np.linalg.norm(at[i] - at[other]) > CLEAR for other in indices):
            indices.append(i)
    return indices
