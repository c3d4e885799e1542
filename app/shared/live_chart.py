"""A Plotly chart that survives refreshes: zoom, pan and legend choices stay when the data change.

Its buttons zoom and move the x axis without dragging, export the chart as PNG or SVG, named after the chart's key, and
show its values as a table, in which a step can be chosen by keyboard.

`st.plotly_chart` mounts a new chart whenever its data change. This one redraws in place, in the page's theme, with the
plotly.js of the plotly package, which `python -m app` serves.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
import plotly.graph_objects as go
import streamlit as st
from plotly.io.json import to_json_plotly

from app.shared.figures import REPLACED
from app.shared.links import Zoom

LIBRARY_ROUTE = "/api/plotly.min.js"
_LIBRARY = f"{LIBRARY_ROUTE.removeprefix('/')}?v={version('plotly')}"
_HERE = Path(__file__)
_LOADER = _HERE.with_name("plotly_library.js").read_text(encoding="utf-8")
_SCRIPTS = ("plotly_library.js", "live_chart_table.js", "live_chart.js")
_chart = st.components.v2.component(
    "live_chart",
    html='<div class="live-chart"></div><div class="live-chart-values" role="region" tabindex="0" hidden></div>\n',
    css=_HERE.with_suffix(".css").read_text(encoding="utf-8"),
    js="".join(_HERE.with_name(name).read_text(encoding="utf-8") for name in _SCRIPTS),
    isolate_styles=False,
)
_library = st.components.v2.component(
    "plotly_library",
    css=".st-key-plotly_library { display: none; }",
    js=_LOADER + "export default ({ data }) => void plotly(data.library).catch(() => {})",
    isolate_styles=False,
)


class ClickedPoint(NamedTuple):
    """The clicked point: the x of the nearest point, the name of its curve, and the key in the curve's `meta`."""

    x: float
    curve: str
    key: str | None = None


class Legend(NamedTuple):
    """State of a page's legend (`app.curves.legend`): keys of the hidden curves, and of the one in front."""

    hidden: tuple[str, ...] = ()
    front: str | None = None


Figure = dict[str, Any]
"""A figure as plotly.js JSON, for charts with so many curves that plotly.py's objects would be too slow."""


def load_library() -> None:
    """Let the browser fetch plotly.js while the page is being built; call it at the top of a page with charts."""
    with st.container(key="plotly_library"):
        _library(key="plotly_library_loader", data={"library": _LIBRARY})


def live_chart(
    figure: go.Figure | Figure,
    *,
    key: str,
    alt: str,
    on_click: Callable[[ClickedPoint], None] | None = None,
    on_zoom: Callable[[Zoom], None] | None = None,
    legend: Legend | None = None,
) -> None:
    """Draw `figure` under a `key` that is the chart's identity; `alt` states its takeaway in a sentence.

    `on_click` and `on_zoom` are called, like Streamlit's callbacks, before the rerun that they cause. With `legend`
    the chart follows the page's legend and, with the page's other charts, highlights the run nearest to the mouse.
    """

    def report() -> None:
        point = st.session_state[key].point
        if point is not None and on_click is not None:
            on_click(ClickedPoint(float(point["x"]), str(point["curve"]), point.get("key")))

    def report_range() -> None:
        new_range = st.session_state[key].range
        if new_range is not None and on_zoom is not None:
            on_zoom(None if new_range["lo"] is None else (float(new_range["lo"]), float(new_range["hi"])))

    _chart(
        key=key,
        data={
            "figure": figure_json(figure),
            "alt": alt,
            "height": figure["layout"]["height"],
            "filename": re.sub(r"[^a-zA-Z0-9]+", "-", key).strip("-"),
            "library": _LIBRARY,
            "follows": None if legend is None else legend._asdict(),
            "zooms": on_zoom is not None,
            "colours": REPLACED,
            "clicks": on_click is not None,
        },
        on_point_change=report,
        on_range_change=report_range,
    )


def figure_json(figure: go.Figure | Figure) -> str:
    """Return the figure with a uid per trace, by which plotly.js remembers hidden curves; plotly.py omits it.

    plotly.js builds a CSS selector from a uid, so it must contain no slash or space.
    """
    content = figure if isinstance(figure, dict) else figure.to_dict()
    uids = [trace["uid"] for trace in figure["data"]]
    traces = [
        trace if uid is None else trace | {"uid": f"trace-{uid.encode().hex()}"}
        for trace, uid in zip(content["data"], uids, strict=True)
    ]
    return str(to_json_plotly(content | {"data": traces}))


def pack_numbers(values: npt.NDArray[Any]) -> dict[str, Any]:
    """Return numbers as a base64 typed array, which plotly.js reads fastest."""
    shape = {"shape": ",".join(map(str, values.shape))} if values.ndim > 1 else {}
    return {"dtype": values.dtype.str[1:], "bdata": base64.b64encode(values.tobytes()).decode(), **shape}
