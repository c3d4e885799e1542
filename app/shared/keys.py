"""Keyboard shortcuts that Streamlit's buttons do not support, and the list of all shortcuts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

SHORTCUTS = {
    "Every page": {"?": "show this list", "Tab, Enter": "move to a control, press it"},
    "Traces": {"← →": "go to the previous or next step"},
    "One trace": {
        "k j": "open the previous or next trace of the group, by reward",
        "g": "show all groups of the step, or all answers of the evaluation",
    },
    "Find": {"k j": "go to the previous or next page"},
    "Drift": {
        "← →": "go to the previous or next question",
        "d": "order by how much the answers differ",
        "1 2": "show questions that only the first, or only the second, got right",
        "b m x": "show those that both got wrong, the most similar, or a random one",
    },
}
"""What each key does, by page."""

_keys = st.components.v2.component(
    "keys", html="<span hidden></span>", js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
)
# Speech input and screen readers send single keys, so users can turn them off; their browser remembers it.
_memory = st.components.v2.component(
    "keys_memory",
    html="<span hidden></span>",
    js="""export default function ({ data, setTriggerValue }) {
      if (data.off !== null) window.localStorage.setItem("vr1zKeys", data.off ? "off" : "on")
      else if (window.localStorage.getItem("vr1zKeys") === "off") setTriggerValue("off", true)
    }""",
)
OFF = "keys.off"


def shortcut(key: str) -> str | None:
    """Return the shortcut of a button; None if the user has turned single keys off."""
    return None if st.session_state.get(OFF) else key


def pressed(keys: Sequence[str], *, key: str) -> str | None:
    """Return the key (a KeyboardEvent name among `keys`) that caused this rerun, if any."""
    wanted = [each for each in keys if shortcut(each)]
    pressed_key: str | None = _keys(key=key, data={"keys": wanted}, on_pressed_change=lambda: None, height=1).pressed
    return pressed_key


def shortcuts_button() -> None:
    """Show the button that opens the list of shortcuts; the question mark opens it too."""
    is_clicked = st.button(
        "Keys", icon=":material/keyboard:", key="keys_sheet", help="Shows all keyboard shortcuts (?)"
    )
    if pressed(["?"], key="keys_sheet.key") == "?" or is_clicked:
        _shortcuts_dialog()
    _memory(key="keys_memory", data={"off": st.session_state.get(OFF)}, on_off_change=_turn_off, height=1)


def _turn_off() -> None:
    st.session_state[OFF] = True


@st.dialog("Keyboard shortcuts")
def _shortcuts_dialog() -> None:
    for place, shortcuts in SHORTCUTS.items():
        st.markdown(f"**{place}**")
        st.table({f"`{key}`": effect for key, effect in shortcuts.items()}, border="horizontal")
    is_off = bool(st.session_state.get(OFF))
    if st.toggle("Single-key shortcuts", not is_off, help="Turn them off if speech input triggers them.") == is_off:
        st.session_state[OFF] = not is_off
        st.rerun()
