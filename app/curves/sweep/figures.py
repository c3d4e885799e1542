"""Figures of a sweep: results over one setting, over two, and over all as parallel axes. Pure functions.

Each point is a run, whose id is its `customdata`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from app.curves.grouping import COLOURS, value_text
from app.curves.sweep.settings import in_order
from app.curves.values import Cell
from app.shared import format
from app.shared.figures import GREY, SYMBOLS, VISIBLE, escape_label, scale
from trainer.spec.statistics import over_seeds

WHITE_UNTIL = 0.43
"""White text is readable on the colour scale up to here, black text from here on."""
WIDE_RANGE = 30.0
"""A setting has a logarithmic axis if its largest value is at least this many times its smallest."""
HEIGHT = 420
LINE = 16
"""Maximum characters per line of a label beside an axis."""
BESIDE = {"l": 120, "r": 76, "t": 28, "b": 24}
"""Margins in pixels for the labels of the outer axes."""


class Sweep(NamedTuple):
    """The data of the figures: the title of the result, and results and names of runs by id."""

    title: str
    results: Mapping[int, float]
    names: Mapping[int, str]
    is_share: bool = False


def scatter(
    sweep: Sweep,
    field: str,
    values: Mapping[int, Cell],
    by: tuple[str, Mapping[int, Cell]] | None = None,
    *,
    colours: Sequence[str] = COLOURS,
) -> go.Figure:
    """Return results over one setting, one point per run; lines join the means, with intervals over seeds.

    `by` names another setting and its values, each of which has its own colour and marker.
    """
    figure = _empty()
    numeric, title = all(isinstance(value, float) for value in values.values()), escape_label(sweep.title)
    kinds = in_order(by[1].values()) if by else [None]
    for number, kind in enumerate(kinds):
        ids = [id for id in sweep.results if by is None or by[1][id] == kind]
        name = f"{by[0].rpartition('.')[2]} {value_text(kind)}" if by else "each run"
        colour, symbol = colours[number % len(colours)], SYMBOLS[number % len(SYMBOLS)]
        x = [values[id] if numeric else escape_label(value_text(values[id])) for id in ids]
        figure.add_scatter(
            x=x,
            y=[sweep.results[id] for id in ids],
            mode="markers",
            name=escape_label(name),
            customdata=ids,
            text=[escape_label(sweep.names[id]) for id in ids],
            marker={"color": colour, "symbol": symbol, "size": 8, "line": {"width": 1, "color": GREY}},
            hovertemplate=f"<b>%{{text}}</b><br>{escape_label(field)} %{{x}}<br>{title} %{{y:.4~g}}<extra></extra>",
        )
        _means(figure, sweep, values, ids, colour, numeric=numeric)
    if numeric:
        numbers = [value for value in values.values() if isinstance(value, float)]
        is_wide = min(numbers) > 0 and max(numbers) / min(numbers) >= WIDE_RANGE
        figure.update_xaxes(type="log" if is_wide else "linear")
    else:
        order = [escape_label(value_text(value)) for value in in_order(values.values())]
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=order)
    figure.update_xaxes(title=escape_label(field))
    figure.update_yaxes(title=title)
    return figure.update_layout(showlegend=by is not None)


def _means(
    figure: go.Figure, sweep: Sweep, values: Mapping[int, Cell], ids: Sequence[int], colour: str, *, numeric: bool
) -> None:
    places = in_order(values[id] for id in ids)
    groups = [[sweep.results[id] for id in ids if values[id] == place] for place in places]
    estimates = [over_seeds(each, share=sweep.is_share) for each in groups]
    figure.add_scatter(
        x=places if numeric else [escape_label(value_text(place)) for place in places],
        y=[float(np.mean(each)) for each in groups],
        mode="lines+markers",
        marker={"symbol": "line-ew-open", "size": 14, "color": colour},
        line={"color": colour, "width": 1.5},
        error_y={"type": "data", "symmetric": False, "color": colour, "thickness": 1.5}
        | {"array": [each.high - each.value if each else 0.0 for each in estimates]}
        | {"arrayminus": [each.value - each.low if each else 0.0 for each in estimates]},
        text=[f"n = {len(each)}" for each in groups],
        hovertemplate="mean %{y:.4~g}, %{text}<extra></extra>",
        showlegend=False,
    )


def heat_map(
    sweep: Sweep,
    x: tuple[str, Mapping[int, Cell]],
    y: tuple[str, Mapping[int, Cell]],
    *,
    lower: bool,
    dark: bool = False,
) -> go.Figure:
    """Return the mean result and number of runs for each pair of values; pairs without runs stay empty."""
    columns, rows = in_order(x[1].values()), in_order(y[1].values())
    cells = {
        (row, column): [id for id in sweep.results if (y[1][id], x[1][id]) == (row, column)]
        for row in rows
        for column in columns
    }
    mean = {pair: float(np.mean([sweep.results[id] for id in ids])) if ids else None for pair, ids in cells.items()}
    written = {pair: f"{format.number(mean[pair])}<br>n = {len(ids)}" if ids else "" for pair, ids in cells.items()}
    figure = _empty()
    figure.add_heatmap(
        x=[escape_label(value_text(value)) for value in columns],
        y=[escape_label(value_text(value)) for value in rows],
        z=[[mean[row, column] for column in columns] for row in rows],
        text=[[written[row, column] for column in columns] for row in rows],
        colorscale=scale(dark=dark),
        reversescale=lower,
        showscale=False,
        hovertemplate=f"{escape_label(x[0])} %{{x}}<br>{escape_label(y[0])} %{{y}}<br>%{{text}}<extra></extra>",
    )
    filled = [pair for pair in cells if mean[pair] is not None]
    values = np.array([mean[pair] for pair in filled], dtype=float)
    shades = (values - values.min()) / (np.ptp(values) or 1.0)
    figure.add_scatter(
        x=[escape_label(value_text(column)) for _, column in filled],
        y=[escape_label(value_text(row)) for row, _ in filled],
        mode="text",
        text=[written[pair] for pair in filled],
        textfont={"color": [text_on(1 - shade if lower else shade, dark=dark) for shade in shades]},
        hoverinfo="skip",
        showlegend=False,
    )
    for axis, name in ((figure.update_xaxes, x[0]), (figure.update_yaxes, y[0])):
        axis(title=escape_label(name), type="category", showgrid=False)
    return figure


def text_on(share: float, *, dark: bool) -> str:
    """Return the colour of a text that is readable on the colour of a result, 0 (low) to 1 (high)."""
    start, end = VISIBLE[dark]
    return "#ffffff" if start + share * (end - start) < WHITE_UNTIL else "#000000"


def heights(values: Mapping[int, Cell], result: Mapping[int, float] | None = None) -> dict[int, float]:
    """Return each run's position on a vertical axis of length 1: numbers by (log) value, others by their mean result.

    Without results, others are in alphabetical order.
    """
    numbers = {id: value for id, value in values.items() if isinstance(value, float)}
    if len(numbers) < len(values):
        order = in_order(values.values())
        if result is not None:
            order.sort(key=lambda kind: float(np.mean([result[id] for id in values if values[id] == kind])))
        return {id: order.index(value) / max(1, len(order) - 1) for id, value in values.items()}
    low, high = min(numbers.values()), max(numbers.values())
    if low > 0 and high / low >= WIDE_RANGE:
        numbers = {id: float(np.log(value)) for id, value in numbers.items()}
        low, high = min(numbers.values()), max(numbers.values())
    return {id: (value - low) / (high - low) if high > low else 0.5 for id, value in numbers.items()}


def parallel(
    sweep: Sweep, factors: Mapping[str, Mapping[int, Cell]], *, lower: bool, dark: bool = False
) -> tuple[go.Figure, dict[int, list[float]]]:
    """Return one line per run across vertical axes for the settings and the result, and each run's positions there."""
    result: dict[int, Cell] = dict(sweep.results)
    axes = {**{field: {id: values[id] for id in result} for field, values in factors.items()}, sweep.title: result}
    of_axis = [heights(values, sweep.results) for values in axes.values()]
    places = {id: [each[id] for each in of_axis] for id in result}
    shades = heights(result)
    colours = scale(dark=dark)
    figure = _empty()
    for place, (name, values) in enumerate(axes.items()):
        figure.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line={"color": GREY, "width": 1}, layer="below")
        for height, text in _ticks(values, of_axis[place], rounded=name == sweep.title):
            beside = _beside(place, height, len(axes))
            figure.add_annotation(x=place, y=height, text=_in_lines(text), showarrow=False, font={"size": 11}, **beside)
        figure.add_annotation(x=place, y=1.13, text=f"<b>{escape_label(name)}</b>", showarrow=False)
    for id in sorted(result, key=lambda id: shades[id], reverse=lower):
        shade = 1 - shades[id] if lower else shades[id]
        figure.add_scatter(
            x=list(range(len(axes))),
            y=places[id],
            mode="lines+markers",
            customdata=[id] * len(axes),
            line={"color": sample_colorscale(colours, [shade])[0], "width": 1.6},
            marker={"size": 6},
            opacity=0.9,
            name=escape_label(sweep.names[id]),
            hovertemplate=f"<b>%{{fullData.name}}</b><br>{escape_label(sweep.title)} {format.number(sweep.results[id])}"
            "<extra></extra>",
        )
    # A box must reach around the outer axes.
    figure.update_xaxes(visible=False, range=[-0.04 * (len(axes) - 1), 1.04 * (len(axes) - 1)])
    figure.update_yaxes(visible=False, range=[-0.06, 1.2])
    return figure.update_layout(showlegend=False, margin=BESIDE), places


def _beside(place: int, height: float, axes: int) -> dict[str, Any]:
    """Return the position of a label: outside of the outer axes, and where few lines pass at the inner ones."""
    if place == 0:
        return {"xanchor": "right", "xshift": -6}
    if place == axes - 1:
        return {"xanchor": "left", "xshift": 6}
    return {"yanchor": "top", "yshift": -4} if height == 0 else {"yanchor": "bottom", "yshift": 4}


def _in_lines(text: str) -> str:
    """Return the text in short lines, for narrow screens."""
    return "<br>".join(map(escape_label, textwrap.wrap(text, LINE))) or escape_label(text)


def _ticks(
    values: Mapping[int, Cell], heights: Mapping[int, float], *, rounded: bool, limit: int = 8
) -> list[tuple[float, str]]:
    """Return position and text of each value, or of the lowest and highest if there are many; results are `rounded`."""
    labels = {height: values[id] for id, height in heights.items()}
    if len(labels) > limit:
        labels = {height: labels[height] for height in (min(labels), max(labels))}
    return [
        (height, format.number(v) if isinstance(v, float) and (rounded or len(value_text(v)) > 8) else value_text(v))
        for height, v in labels.items()
    ]


def _empty() -> go.Figure:
    margin = {"t": 28, "r": 16, "l": 16, "b": 16}
    return go.Figure(layout={"height": HEIGHT, "margin": margin, "dragmode": "select", "hovermode": "closest"})
