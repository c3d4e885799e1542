"""Keyboard shortcuts that Streamlit's buttons cannot have, such as the question mark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

_keys = st.components.v2.component(
    "keys", html="<span hidden></span>", js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
)


def pressed(keys: Sequence[str], *, key: str) -> str | None:
    """Return the one of `keys` (names of the browser's KeyboardEvent) that caused this script run, if any."""
    found: str | None = _keys(key=key, data={"keys": list(keys)}, on_pressed_change=lambda: None, height=1).pressed
    return found
