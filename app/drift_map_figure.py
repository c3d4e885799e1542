"""The figure of the drift map: a pure function of points that knows neither the store nor Streamlit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from app.figures import GREY, plain

Floats = NDArray[np.float64]
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star")


class Cloud(NamedTuple):
    """Points of one kind: `at` (n, 2), the ids of what they stand for, and what each says on hover."""

    name: str
    at: Floats
    ids: Sequence[int]
    words: Sequence[str]
    color: str | None = None
    """None where `shade` colours each point."""
    shade: Floats | None = None


def scatter(clouds: Sequence[Cloud], references: Floats, explained: Floats, *, shaded: str = "") -> go.Figure:
    """Clouds under that of the references (m, 2), which are rings.

    `explained` (2,) goes to the axes, `shaded` names the colour scale; a point's `customdata` is its id.
    """
    figure = go.Figure()
    shades = np.concatenate([cloud.shade for cloud in clouds if cloud.shade is not None] or [np.zeros(1)])
    for number, cloud in enumerate(clouds):
        marker = {"size": 6, "opacity": 0.75, "symbol": SYMBOLS[number % len(SYMBOLS)], "color": cloud.color}
        if cloud.shade is not None:
            bounds = {"cmin": float(np.nanmin(shades)), "cmax": float(np.nanmax(shades)), "showscale": number == 0}
            bar = {"title": {"text": plain(shaded)}, "thickness": 12}
            marker |= {"color": cloud.shade, "colorscale": "Viridis", "colorbar": bar, **bounds}
        figure.add_trace(
            go.Scatter(
                name=plain(cloud.name),
                x=cloud.at[:, 0],
                y=cloud.at[:, 1],
                customdata=list(cloud.ids),
                text=[plain(words) for words in cloud.words],
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
            marker={"color": GREY, "size": 7, "opacity": 0.6, "symbol": "circle-open", "line": {"width": 1}},
            hovertemplate="a reference<extra></extra>",
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
