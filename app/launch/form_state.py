"""The values behind the launch form, by path: what it was filled with, and the user's changes.

Each filling is a new generation of widgets: a value put into an existing widget's state can get lost in the browser
when two runs of the script follow each other closely, a new widget's default cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

_FILLED, _GENERATION = "launch.filled", "launch.generation"


def fill(values: Mapping[str, Any]) -> None:
    """Make new widgets with these values; call it before they are drawn, or from a callback."""
    st.session_state[_FILLED] = dict(values)
    st.session_state[_GENERATION] = st.session_state.get(_GENERATION, 0) + 1


def key(path: str) -> str:
    """Return the key of a field's widget."""
    return f"launch.{st.session_state.get(_GENERATION, 0)}.{path}"


def filled(path: str, default: Any = None) -> Any:
    """Return what the form was filled with: the default of the field's widget."""
    return st.session_state.get(_FILLED, {}).get(path, default)


def value(path: str, default: Any = None) -> Any:
    """Return what the field holds now."""
    return st.session_state.get(key(path), filled(path, default))
