"""The way of runs through the plane of accuracy and similarity. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from app.shared.figures import Frame, empty, escape_label, group_style


class Path(NamedTuple):
    """One run over its checkpoints: step, exact match and mean similarity of each."""

    name: str
    method: str
    place: int
    """Index of its group among those of its method, for colour and marker."""
    steps: Sequence[int]
    accuracy: Sequence[float]
    similarity: Sequence[float]


def paths(runs: Sequence[Path]) -> go.Figure:
    """Return accuracy against similarity, one path per run; the large marker is the last checkpoint."""
    figure = empty(Frame(x_title="mean similarity to the reference", height=360))
    for run in runs:
        color, dash, symbol = group_style(run.method, run.place)
        last = len(run.steps) - 1
        figure.add_trace(
            go.Scatter(
                uid=run.name,
                name=escape_label(run.name),
                x=list(run.similarity),
                y=list(run.accuracy),
                customdata=list(run.steps),
                mode="lines+markers",
                line={"color": color, "dash": dash, "width": 1.5},
                marker={
                    "color": color,
                    "symbol": symbol,
                    "size": [12 if i == last else 5 for i in range(len(run.steps))],
                },
                hovertemplate="step %{customdata}: %{y:.1%} right, similarity %{x:.2f}",
            )
        )
    figure.update_layout(showlegend=True, hovermode="closest")
    figure.update_xaxes(range=[-0.02, 1.02], rangemode="normal")
    figure.update_yaxes(range=[-0.02, 1.04], tickformat=".0%")
    return figure
