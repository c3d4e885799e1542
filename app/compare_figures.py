"""Figures of a comparison: pure functions of numbers that know neither the store nor Streamlit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from app.figures import METHOD_STYLE, PLAIN, Floats, Frame, Line, empty, line_chart, plain
from trainer.statistics import wilson

DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "x")
NO_ANSWER = "none"
MOST_COUNTS = 20
"""Counts beyond it share one place of the heat map."""


class Path(NamedTuple):
    """One run over its checkpoints: step, exact match and mean similarity of each."""

    name: str
    method: str
    rank: int
    """Place of its rank among those of its method, for the marker."""
    steps: Sequence[int]
    accuracy: Sequence[float]
    similarity: Sequence[float]


class Tally(NamedTuple):
    """How often a group was right, by true count: {count: [right, n]}."""

    name: str
    method: str
    rank: int
    counts: dict[int, list[int]]


def paths(runs: Sequence[Path]) -> go.Figure:
    """Accuracy against similarity, one path a run; the last checkpoint is the large mark."""
    figure = empty(Frame(x_title="mean similarity to the reference", height=360))
    for run in runs:
        color, dash = METHOD_STYLE[run.method]
        last = len(run.steps) - 1
        figure.add_trace(
            go.Scatter(
                uid=run.name,
                name=plain(run.name),
                x=list(run.similarity),
                y=list(run.accuracy),
                customdata=list(run.steps),
                mode="lines+markers",
                line={"color": color, "dash": dash, "width": 1.5},
                marker={
                    "color": color,
                    "symbol": SYMBOLS[run.rank % len(SYMBOLS)],
                    "size": [12 if i == last else 5 for i in range(len(run.steps))],
                },
                hovertemplate="step %{customdata}: %{y:.1%} right, similarity %{x:.2f}",
            )
        )
    figure.update_layout(showlegend=True, hovermode="closest")
    figure.update_xaxes(range=[-0.02, 1.02], rangemode="normal")
    figure.update_yaxes(range=[-0.02, 1.04], tickformat=".0%")
    return figure


def by_count(tallies: Sequence[Tally]) -> go.Figure:
    """Share of right answers over the true count, with Wilson's intervals."""
    lines = []
    for each in tallies:
        counts = sorted(each.counts)
        right, n = np.array([each.counts[count] for count in counts], float).T
        bounds = np.array([wilson(int(a), int(b)) for a, b in zip(right, n, strict=True)])
        color, _ = METHOD_STYLE[each.method]
        dash = DASHES[each.rank % len(DASHES)]
        x = np.array(counts, float)
        lines.append(Line(each.name, x, right / n, color, dash, bounds[:, 0], bounds[:, 1], sparse=True))
    return line_chart(lines, PLAIN._replace(x_title="true count", height=320), share=True)


def heat(truth: Floats, answer: Floats) -> go.Figure:
    """How often each answer (rows; `none` where there is none) was given to each true count (columns), in percent."""
    top = int(min(np.nanmax([*truth, *answer, 0]), MOST_COUNTS))
    table = np.zeros((top + 2, top + 1))
    for true, said in zip(truth, answer, strict=True):
        row = 0 if np.isnan(said) else 1 + int(min(said, top))
        table[row, int(min(true, top))] += 1
    totals = table.sum(axis=0)
    share = np.divide(table, totals, out=np.full_like(table, np.nan), where=totals > 0)
    labels = [str(count) for count in range(top)] + [f"{top}+" if top == MOST_COUNTS else str(top)]
    figure = empty(Frame(x_title="true count", height=360))
    figure.add_trace(
        go.Heatmap(
            uid="heat",
            x=labels,
            y=[NO_ANSWER, *labels],
            z=share,
            customdata=table,
            colorscale="Blues",
            zmin=0,
            zmax=1,
            colorbar={"tickformat": ".0%", "thickness": 12},
            hovertemplate="true %{x}, answered %{y}: %{customdata} (%{z:.0%})<extra></extra>",
        )
    )
    figure.update_layout(hovermode="closest", showlegend=False)
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", title={"text": "answer"})
    return figure
