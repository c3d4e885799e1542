"""URLs of the dashboard: navigation within a page, and links that work behind any proxy.

Only a user's action may change the URL, never the drawing of a page: otherwise going back would change it again.
"""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st
from streamlit.runtime.state.session_state_proxy import get_session_state

from store.metrics import MAX_STEP

Zoom = tuple[float, float] | None
"""Visible range of the x axis; None for all of it."""
MEDIA = "api/media"
"""Relative, like all links here: pages lie side by side, and a proxy may serve them below any path."""


def go(*forget: str, **place: str) -> None:
    """Change the URL in one step, so that one press of Back undoes it; `forget` names parameters to remove.

    `st.query_params` makes one step per removed parameter, and refuses those bound to a widget.
    """
    with get_session_state().query_params() as address:
        parameters = {name: value for name, value in address.to_dict().items() if name not in forget}
        address.clear_with_no_forward_msg(preserve_embed=True)
        for name, value in parameters.items():
            address.set_with_no_forward_msg(name, value)
        address.update(place)


def parse_whole(text: str) -> int | None:
    """Return a whole number written in ASCII digits; None for anything else, or if no column can hold it."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 and int(text) <= MAX_STEP else None


def number(name: str) -> int | None:
    """Return a URL parameter as a whole number."""
    return parse_whole(st.query_params.get(name, ""))


def step() -> int | None:
    """Return the step of the cursor, from the URL."""
    return number("step")


def set_step(new_step: float) -> None:
    go(step=str(round(new_step)))


def clear_step() -> None:
    go("step")


def zoom() -> Zoom:
    """Return the range of the x axis in the URL, `zoom=LOW,HIGH`; None for all of it."""
    parts = st.query_params.get("zoom", "").split(",")
    try:
        low, high = map(float, parts)
    except ValueError:
        return None
    return (low, high) if float("-inf") < low < high < float("inf") else None


def set_zoom(new_zoom: Zoom) -> None:
    if new_zoom is None:
        go("zoom")
    else:
        go(zoom=f"{new_zoom[0]:.6g},{new_zoom[1]:.6g}")


def page(name: str, **query: str | int) -> str:
    """Return the URL of another page, not escaped."""
    return f"{name}?{urlencode(query)}" if query else name


def image(sha256: str) -> str:
    return f"{MEDIA}/{sha256}"
