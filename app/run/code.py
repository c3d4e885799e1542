"""The code that a run was started with: the commit, and uncommitted changes."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from app.shared import data, format
from store.db.redaction import redact
from store.db.rows import RunDetail
from store.surroundings.code import KeptSource


def code_part(run: RunDetail) -> None:
    """Show the code of the latest start, and that of earlier starts if a resumed run used different code."""
    starts = data.read_code((run.id,))[run.id]
    if not starts:
        return
    st.markdown("**Code**", help="Git state of the trainer's source, recorded whenever a job of the run starts.")
    for number, start in enumerate(reversed(starts)):
        _show_source(run, start, number)


def _show_source(run: RunDetail, start: KeptSource, number: int) -> None:
    source = start.source
    at = f"{datetime.fromtimestamp(start.at, UTC):%Y-%m-%d %H:%M} UTC"
    when = "Latest start" if number == 0 else "Earlier start"
    st.caption(f"{when}, {at}: commit {format.literal(source.revision[:12])}. {_changes(source.changed)}")
    if not source.difference:
        return
    difference = redact(source.difference)
    with st.expander("Uncommitted changes", icon=":material/difference:", key=f"code_{number}"):
        if source.changed:
            st.text("\n".join(source.changed))
        st.code(difference, language="diff", height=420)
        if source.is_cut:
            st.caption("The changes were too long and are truncated.")
        name = f"{run.uid}.diff"
        st.download_button(
            "Download", difference, name, key=f"code_download_{number}", icon=":material/download:", on_click="ignore"
        )


def _changes(changed: tuple[str, ...]) -> str:
    if not changed:
        return "No uncommitted changes."
    return f"{format.pluralize(len(changed), 'file')} changed since."
