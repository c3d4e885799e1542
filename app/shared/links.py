"""Addresses of the dashboard: going to another place on a page, and links that hold behind any proxy.

An address is changed by what somebody does, never by a page that is drawn: going back would change it again.
"""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st
from streamlit.runtime.state.session_state_proxy import get_session_state

from store.metrics import MAX_STEP

MEDIA = "api/media"
"""Relative, as all links here: pages lie side by side, and a proxy may show them below a path of its own."""


def go(*forget: str, **place: str) -> None:
    """Changes the address in one step, so that one press of Back undoes it; `forget` names what it says no more.

    `st.query_params` takes a step for each parameter that is removed, and refuses those that belong to a widget.
    """
    with get_session_state().query_params() as address:
        kept = {name: value for name, value in address.to_dict().items() if name not in forget}
        address.clear_with_no_forward_msg(preserve_embed=True)
        for name, value in kept.items():
            address.set_with_no_forward_msg(name, value)
        address.update(place)


def whole(text: str) -> int | None:
    """A whole number in ASCII digits, as addresses write it; None for anything else and for what no column can hold."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 and int(text) <= MAX_STEP else None


def number(name: str) -> int | None:
    """The whole number that stands in the address under a name."""
    return whole(st.query_params.get(name, ""))


def step() -> int | None:
    """The step that the cursor is at."""
    return number("step")


def set_step(to: float) -> None:
    go(step=str(round(to)))


def clear_step() -> None:
    go("step")


def page(name: str, **query: str | int) -> str:
    """The address of another page, not escaped."""
    return f"{name}?{urlencode(query)}" if query else name


def image(sha256: str) -> str:
    return f"{MEDIA}/{sha256}"
