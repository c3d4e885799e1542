"""The sidebar's box: what runs, how far it is, how long it takes, what waits."""

from __future__ import annotations

import streamlit as st

from app import data, format, status

RUN_PAGE = "../pages/run.py"


@st.fragment(run_every=2.0)
def now_box() -> None:
    runs = data.runs(data.reader())
    live = [run for run in runs if run.status in status.ACTIVE]
    waiting = sum(run.status == "queued" for run in runs)
    with st.container(border=True, key="now", gap="xsmall"):
        if not live:
            st.caption("Nothing runs now.")
        for run in live:
            icon = status.look(run.status).icon
            st.page_link(RUN_PAGE, label=format.literal(run.name), icon=icon, query_params={"run": run.uid})
            st.progress(status.progress(run) or 0.0)
            left = status.seconds_left(run)
            st.caption(status.steps(run) + (f" · {format.duration(left)} left" if left is not None else ""))
        if waiting:
            st.caption(f"{waiting} waiting in the queue")
