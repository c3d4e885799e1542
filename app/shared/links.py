"""Addresses of the dashboard: navigation within a page, and links that work behind any proxy.

Only a user's action may change an address, never the drawing of a page: going back would change it again.
"""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st
from streamlit.runtime.state.session_state_proxy import get_session_state

from store.metrics import MAX_STEP

Zoom = tuple[float, float] | None
"""The part of the x axis that is shown, None for all of it."""
MEDIA = "api/media"
"""Relative, like all links here: pages lie side by side, and a proxy may serve them below a path of its own."""


def go(*forget: str, **place: str) -> None:
    """Change the address in one step, so that one press of Back undoes it; `forget` names parameters to remove.

    `st.query_params` takes a step for each removed parameter, and refuses those that belong to a widget.
    """
    with get_session_state().query_params() as address:
        kept = {name: value for name, value in address.to_dict().items() if name not in forget}
        address.clear_with_no_forward_msg(preserve_embed=True)
        for name, value in kept.items():
            address.set_with_no_forward_msg(name, value)
        address.update(place)


def whole(text: str) -> int | None:
    """Return a whole number in ASCII digits, as addresses write it; None for others, or if no column can hold it."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 and int(text) <= MAX_STEP else None


def number(name: str) -> int | None:
    """Return the whole number of a parameter in the address."""
    return whole(st.query_params.get(name, ""))


def step() -> int | None:
    """Return the step of the cursor."""
    return number("step")


def set_step(to: float) -> None:
    go(step=str(round(to)))


def clear_step() -> None:
    go("step")


def zoom() -> Zoom:
    """Return the part of the x axis in the address, `zoom=LOW,HIGH`; None for all of it."""
    parts = st.query_params.get("zoom", "").split(",")
    try:
        low, high = map(float, parts)
    except ValueError:
        return None
    return (low, high) if float("-inf") < low < high < float("inf") else None


def set_zoom(to: Zoom) -> None:
    if to is None:
        go("zoom")
    else:
        go(zoom=f"{to[0]:.6g},{to[1]:.6g}")


def page(name: str, **query: str | int) -> str:
    """Return the address of another page, not escaped."""
    return f"{name}?{urlencode(query)}" if query else name


def image(sha256: str) -> str:
    return f"{MEDIA}/{sha256}"
