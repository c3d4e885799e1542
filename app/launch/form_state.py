"""The values of the launch form, by path: those that it was filled with, and the user's changes.

Each fill creates a new generation of widgets: a value set in an existing widget's state can get lost in the browser
when two reruns follow each other closely; a new widget's default cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

_FILLED, _GENERATION = "launch.filled", "launch.generation"


def fill(values: Mapping[str, Any]) -> None:
    """Create new widgets with these values; call it before they are drawn, or from a callback."""
    st.session_state[_FILLED] = dict(values)
    st.session_state[_GENERATION] = st.session_state.get(_GENERATION, 0) + 1


def key(path: str) -> str:
    """Return the key of a field's widget."""
    return f"launch.{st.session_state.get(_GENERATION, 0)}.{path}"


def filled_value(path: str, default: Any = None) -> Any:
    """Return the value that the field was filled with, its widget's default."""
    return st.session_state.get(_FILLED, {}).get(path, default)


def value(path: str, default: Any = None) -> Any:
    """Return the field's current value."""
    return st.session_state.get(key(path), filled_value(path, default))
