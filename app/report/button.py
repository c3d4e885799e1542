"""The button that makes a file of runs, to send or to keep."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.report.document import document
from app.shared import data
from store.db.rows import RunDetail


def download(runs: Sequence[RunDetail], *, key: str) -> None:
    """Show the button; the file is made when it is pressed."""
    st.download_button(
        "Save as page",
        lambda: document(data.keeper(), runs),
        f"{runs[0].uid if len(runs) == 1 else 'runs'}.html",
        "text/html",
        icon=":material/share:",
        key=key,
        on_click="ignore",
        help="Writes curves, milestones, answers and conditions into one HTML file that opens offline.",
    )
