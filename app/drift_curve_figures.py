"""Figures of style drift over training: pure functions of curves that know neither the store nor Streamlit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from app.compare_figures import Path, paths
from app.drift_curves import Curve
from app.figures import GREY, Frame, Line, line_chart, plain

CLEAR = 0.07
"""Distance in the plane between two steps that are written."""


class Trained(NamedTuple):
    """One run over its checkpoints."""

    name: str
    color: str
    dash: str
    similarity: Curve
    accuracy: Curve


def similarity_chart(runs: Sequence[Trained], levels: Mapping[str, float]) -> go.Figure:
    """Mean similarity with its spread, and accuracy dotted, over steps; `levels` are drawn across, with their names."""
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
            text=plain(f"{name} {level:.2f}"),
            showarrow=False,
            font={"color": GREY, "size": 11},
        )
    for line in figure.data:
        if line.line.dash == "dot":
            line.update(line={"width": 1.2}, hovertemplate="%{y:.1%}")
    figure.update_yaxes(range=[-0.05, 1.06])
    return figure


def plane(runs: Sequence[tuple[Path, str]], levels: Mapping[str, float]) -> go.Figure:
    """Accuracy against similarity, one path a run in its colour, steps written where there is room.

    `levels` are uprights, with their names.
    """
    figure = paths([path for path, _ in runs])
    for drawn, (path, color) in zip(figure.data, runs, strict=True):
        drawn.update(line={"color": color}, marker={"color": color})
        shown = _apart(path)
        figure.add_trace(
            go.Scatter(
                uid=f"{path.name}/steps",
                legendgroup=path.name,
                showlegend=False,
                mode="text",
                x=[path.similarity[i] for i in shown],
                y=[path.accuracy[i] for i in shown],
                text=[str(path.steps[i]) for i in shown],
                textposition="middle right",
                textfont={"size": 10, "color": color},
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
            text=plain(f"{name} {level:.2f}"),
            showarrow=False,
            font={"color": GREY, "size": 11},
        )
    return figure.update_layout(height=340)


def _apart(path: Path) -> list[int]:
    """The last and the first position, and those between that stand clear of the ones before them."""
    at = np.column_stack([path.similarity, path.accuracy])
    kept: list[int] = []
    for i in (len(at) - 1, *range(len(at) - 1)):
        if all(np.linalg.norm(at[i] - at[other]) > CLEAR for other in kept):
            kept.append(i)
    return kept
