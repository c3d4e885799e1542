"""The sidebar's box: running jobs with progress and remaining time, and the number of queued jobs."""

from __future__ import annotations

import streamlit as st

from app.shared import data, format, status

RUN_PAGE = "../pages/run.py"


@st.fragment(run_every=2.0)
def now_box() -> None:
    runs = data.list_runs(open_only=True)
    jobs = data.list_jobs(open_only=True)
    live = [run for run in runs if run.status in status.ACTIVE]
    # An evaluation does not change the status of a run that was trained before.
    others = [job for job in jobs if job.state in status.ACTIVE and job.run_id not in {run.id for run in live}]
    waiting = sum(job.state == "queued" for job in jobs)
    with st.container(border=True, key="now", gap="xsmall"):
        if not live and not others:
            st.caption("No active jobs.")
        for run in live:
            icon = status.look(run.status).icon
            st.page_link(RUN_PAGE, label=format.literal(run.name), icon=icon, query_params={"run": run.uid})
            st.progress(status.progress(run) or 0.0)
            left = status.seconds_left(run)
            st.caption(status.steps(run) + (f" · {format.duration(left)} left" if left is not None else ""))
        for job in others:
            query = {"run": job.run_uid, "tab": "Evaluations"}
            st.page_link(RUN_PAGE, label=format.literal(job.run_name), icon=":material/fact_check:", query_params=query)
            st.caption(format.literal(job.activity or job.kind))
        if waiting:
            st.caption(f"{waiting} queued")
