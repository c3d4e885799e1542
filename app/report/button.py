"""The button that exports runs as an HTML file."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.report.document import document
from app.shared import data
from store.db.rows import RunDetail


def download(runs: Sequence[RunDetail], *, key: str) -> None:
    """Show the button; the file is created when it is clicked."""
    st.download_button(
        "Export as HTML",
        lambda: document(data.dashboard_writer(), runs),
        f"{runs[0].uid if len(runs) == 1 else 'runs'}.html",
        "text/html",
        icon=":material/share:",
        key=key,
        on_click="ignore",
        help="Exports curves, milestones, answers and conditions as one HTML file that opens offline.",
    )
