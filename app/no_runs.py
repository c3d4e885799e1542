"""What a page says while there is no run at all: why it is empty, and the ways to a run."""

from __future__ import annotations

from typing import NoReturn

import streamlit as st

from app import recorded, recorded_view
from app.shared import data, run_actions

LAUNCH_PAGE = "../pages/launch.py"
LOOK_EVERY = 2.0


def end_page(comes: str) -> NoReturn:
    """Say that there is no run yet and what comes here with one, and end the page; go on by itself once one is there.

    `comes` is half a sentence: "its answers beside their images".
    """
    st.info(f"There is no run yet. The first one brings {comes}.", icon=":material/inbox:")
    with st.container(horizontal=True, vertical_alignment="center", key="no_runs"):
        recorded_view.show_button(type="primary")
        run_actions.demo_button()
        st.page_link(LAUNCH_PAGE, label="Launch a run", icon=":material/rocket_launch:")
    look_again()
    st.stop()


@st.fragment(run_every=LOOK_EVERY)
def look_again(*, for_recorded: bool = False) -> None:
    """Show the page anew when a run has come, or one of the recorded ones, from another process."""
    found = data.list_run_heads(newest=1, uids=tuple(recorded.manifest().runs))
    if recorded.here(found) if for_recorded else found:
        st.rerun()
