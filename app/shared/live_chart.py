"""A Plotly chart that survives refreshes: zoom, pan and legend choices stay while the data change.

Its two save buttons write what is on the screen as PNG or SVG, named after the chart's key.

`st.plotly_chart` mounts a new chart whenever its data change. This one redraws in place, in the page's colours, with
the plotly.js of the plotly package, which `python -m app` serves.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import plotly.graph_objects as go
import streamlit as st
from plotly.io.json import to_json_plotly

LIBRARY_ROUTE = "/api/plotly.min.js"
_LIBRARY = f"{LIBRARY_ROUTE.removeprefix('/')}?v={version('plotly')}"
_HERE = Path(__file__)
_LOADER = _HERE.with_name("plotly_library.js").read_text(encoding="utf-8")
_chart = st.components.v2.component(
    "live_chart",
    html='<div class="live-chart"></div>\n',
    css=_HERE.with_suffix(".css").read_text(encoding="utf-8"),
    js=_LOADER + _HERE.with_suffix(".js").read_text(encoding="utf-8"),
    isolate_styles=False,
)
_library = st.components.v2.component(
    "plotly_library",
    css=".st-key-plotly_library { display: none; }",
    js=_LOADER + "export default ({ data }) => void plotly(data.library).catch(() => {})",
    isolate_styles=False,
)


class Point(NamedTuple):
    """Where the user clicked: the x of the nearest point and the name of its curve."""

    x: float
    curve: str


def load_library() -> None:
    """Let the browser fetch plotly.js while the page is still being built; call it at the top of a page of charts."""
    with st.container(key="plotly_library"):
        _library(key="plotly_library_loader", data={"library": _LIBRARY})


def live_chart(figure: go.Figure, *, key: str, alt: str, on_click: Callable[[Point], None] | None = None) -> None:
    """Draw `figure` under a `key` that is the chart's identity; `alt` is its takeaway in a sentence.

    `on_click` is called, as Streamlit's callbacks are, before the rerun that a click causes.
    """

    def report() -> None:
        point = st.session_state[key].point
        if point is not None and on_click is not None:
            on_click(Point(float(point["x"]), str(point["curve"])))

    _chart(
        key=key,
        data={
            "figure": figure_json(figure),
            "alt": alt,
            "height": figure.layout.height,
            "filename": re.sub(r"[^a-zA-Z0-9]+", "-", key).strip("-"),
            "library": _LIBRARY,
        },
        on_point_change=report,
    )


def figure_json(figure: go.Figure) -> str:
    """Return the figure with a uid for each trace, by which plotly.js remembers hidden curves; plotly.py omits it.

    plotly.js builds a CSS selector from a uid, so it must contain no slash or space.
    """
    content = figure.to_dict()
    for written, trace in zip(content["data"], figure.data, strict=True):
        if trace.uid is not None:
            written["uid"] = f"trace-{trace.uid.encode().hex()}"
    return str(to_json_plotly(content))
