"""Figures of a comparison. Pure functions of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from app.shared.figures import (
    BLUE,
    PALETTE,
    PLAIN,
    Floats,
    Frame,
    Line,
    empty,
    group_style,
    line_chart,
    with_opacity,
)
from trainer.spec.statistics import wilson

DASHES = ("solid", "dash", "dot", "dashdot")
NO_ANSWER = "none"
MOST_COUNTS = 20
"""Larger counts share one cell in the heat map."""


class Tally(NamedTuple):
    """How often a group was right, by true count: {count: [right, n]}."""

    name: str
    method: str
    place: int
    counts: dict[int, list[int]]


class AccuracyCurve(NamedTuple):
    """Shares of right answers over a budget, with the number of examples behind each."""

    name: str
    method: str
    place: int
    places: Floats
    right: Sequence[int]
    n: Sequence[int]


def accuracy_chart(curves: Sequence[AccuracyCurve], title: str, cursor: float | None) -> go.Figure:
    """Return accuracy with Wilson intervals over the cost; `cursor` marks the budget of the comparison."""
    lines = []
    for curve in curves:
        bounds = np.array([wilson(right, n) for right, n in zip(curve.right, curve.n, strict=True)])
        color, dash, _ = group_style(curve.method, curve.place)
        share = np.array(curve.right) / np.array(curve.n)
        lines.append(Line(curve.name, curve.places, share, color, dash, bounds[:, 0], bounds[:, 1], sparse=True))
    figure = line_chart(lines, Frame(x_title=title, revision=title, cursor=cursor, height=340), share=True)
    return _with_markers(figure, curves)


class Rewarded(NamedTuple):
    """Mean total rewards over a budget, all under one definition."""

    name: str
    method: str
    place: int
    places: Floats
    totals: Floats


def rewards(runs: Sequence[Rewarded], title: str) -> go.Figure:
    lines = [
        Line(each.name, each.places, each.totals, *group_style(each.method, each.place)[:2], sparse=True)
        for each in runs
    ]
    figure = line_chart(lines, Frame(x_title=title, revision=title, height=340))
    figure.update_layout(showlegend=True)
    return _with_markers(figure, runs)


def _with_markers(figure: go.Figure, runs: Sequence[AccuracyCurve] | Sequence[Rewarded] | Sequence[Tally]) -> go.Figure:
    """Return the figure with a marker for each group of a method."""
    for run in runs:
        figure.update_traces(marker_symbol=group_style(run.method, run.place)[2], selector={"uid": run.name})
    return figure


class Alteration(NamedTuple):
    """Number of answers out of n that one kind of alteration changed, by checkpoint."""

    name: str
    steps: Sequence[int]
    changed: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def altered(alterations: Sequence[Alteration]) -> go.Figure:
    """Return shares of changed answers with intervals, by checkpoint of one run."""
    lines = []
    for i, each in enumerate(alterations):
        steps, changed, low, high = (np.array(column, float) for column in each[1:])
        lines.append(
            Line(each.name, steps, changed, PALETTE[i % len(PALETTE)], DASHES[i % len(DASHES)], low, high, True)
        )
    return line_chart(lines, PLAIN._replace(height=300), share=True)


def by_count(tallies: Sequence[Tally]) -> go.Figure:
    """Return the share of right answers by true count, with Wilson intervals."""
    lines = []
    for tally in tallies:
        counts = sorted(tally.counts)
        right, n = np.array([tally.counts[count] for count in counts], float).T
        bounds = np.array([wilson(int(a), int(b)) for a, b in zip(right, n, strict=True)])
        color, dash, _ = group_style(tally.method, tally.place)
        x = np.array(counts, float)
        lines.append(Line(tally.name, x, right / n, color, dash, bounds[:, 0], bounds[:, 1], sparse=True))
    return _with_markers(line_chart(lines, PLAIN._replace(x_title="true count", height=360), share=True), tallies)


def answer_heat_map(truth: Floats, answer: Floats) -> go.Figure:
    """Return a heat map of answers (rows; `none` for no answer) by true count (columns), in percent."""
    top = int(min(np.nanmax([*truth, *answer, 0]), MOST_COUNTS))
    table = np.zeros((top + 2, top + 1))
    for true, given in zip(truth, answer, strict=True):
        row = 0 if np.isnan(given) else 1 + int(min(given, top))
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
            colorscale=[[0, with_opacity(BLUE, 0.0)], [1, with_opacity(BLUE, 0.95)]],
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
