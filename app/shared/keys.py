"""Keyboard shortcuts that Streamlit's buttons cannot have, and the sheet that lists all keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

SHEET = {
    "Every page": {"?": "show these keys", "Tab, Enter": "move to a control, press it"},
    "Traces": {"← →": "go one step back or on"},
    "One trace": {
        "k j": "open the trace before or after it in its group, by reward",
        "g": "show all groups of the step, or all answers of the evaluation",
    },
    "Find": {"k j": "go one page back or on"},
    "Drift": {
        "← →": "go one question back or on",
        "d": "order by how much the answers differ",
        "1 2": "show where only the first, or only the second, is right",
        "b m x": "show where both are wrong, the most similar, or a random one",
    },
}
"""What each key does, by where it works."""

_keys = st.components.v2.component(
    "keys", html="<span hidden></span>", js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
)


def pressed(keys: Sequence[str], *, key: str) -> str | None:
    """Return the one of `keys` (names of the browser's KeyboardEvent) that caused this script run, if any."""
    found: str | None = _keys(key=key, data={"keys": list(keys)}, on_pressed_change=lambda: None, height=1).pressed
    return found


def sheet() -> None:
    """Show the button that opens the list of keys; the question mark opens it, too."""
    is_asked = st.button("Keys", icon=":material/keyboard:", key="keys_sheet", help="All keys, also by ?")
    if pressed(["?"], key="keys_sheet.key") == "?" or is_asked:
        _sheet()


@st.dialog("Keys")
def _sheet() -> None:
    for place, found in SHEET.items():
        st.markdown(f"**{place}**")
        st.table({f"`{key}`": what for key, what in found.items()}, border="horizontal")
