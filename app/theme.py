"""The switch between the light and the dark theme, and the colours of curves in each.

Streamlit keeps a user's choice per URL path; this one applies to all pages. It is written where Streamlit reads it
(`stActiveTheme-PATH-v2` in the browser's storage), and the page is reloaded.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.shared.figures import REPLACED

_switch = st.components.v2.component(
    "theme",
    html='<button type="button"></button>',
    css=Path(__file__).with_suffix(".css").read_text(encoding="utf-8"),
    js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
)


def current() -> str:
    return "dark" if st.context.theme.type == "dark" else "light"


def readable(color: str) -> str:
    """Return a colour for a chart of Streamlit's own; live charts replace theirs in the browser."""
    return REPLACED[current()].get(color, color)


def switch() -> None:
    pages = sorted(path.stem for path in (Path(__file__).resolve().parents[1] / "pages").glob("*.py"))
    _switch(key="theme", data={"pages": ["", *pages], "is_dark": st.context.theme.type == "dark"}, height=40, width=124)
