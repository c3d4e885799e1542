"""Progress of an experiment: finished, running, queued and failed runs, and the reasons for failures."""

from __future__ import annotations

import streamlit as st

from app.shared import data, format, status
from store.db.rows import ExperimentRow, JobRow
from store.jobs import list_jobs

RUN_PAGE = "../pages/run.py"


def jobs_of(experiment: ExperimentRow) -> list[JobRow]:
    return [job for job in list_jobs(data.reader()) if job.run_id in experiment.arms]


def is_open(experiment: ExperimentRow) -> bool:
    return any(job.state in status.OPEN for job in jobs_of(experiment))


def progress(experiment: ExperimentRow, was_open: bool) -> None:
    """Show the progress, and rerun the page when the last job has ended."""
    jobs = jobs_of(experiment)
    ended = [job for job in jobs if job.state not in status.OPEN]
    failed = [job for job in ended if job.state != "finished"]
    running = [job for job in jobs if job.state in status.ACTIVE]
    trained = sum(job.kind == "train" and job.state == "finished" for job in jobs)
    summary = f"{len(ended)} of {format.pluralize(len(jobs), 'job')} ended, {format.pluralize(trained, 'run')} trained"
    summary += f", {len(failed)} did not finish" if failed else ""
    if not running and not failed and len(ended) == len(jobs):
        st.caption(f"{summary}.")
        return
    with st.container(border=True, key="experiment-progress", gap="xsmall"):
        st.progress(len(ended) / max(1, len(jobs)), text=summary)
        for job in running:
            st.page_link(
                RUN_PAGE, label=job_summary(job), icon=":material/play_arrow:", query_params={"run": job.run_uid}
            )
        for job in failed:
            st.page_link(RUN_PAGE, label=job_summary(job), icon=":material/error:", query_params={"run": job.run_uid})
            if job.error:
                st.text(job.error)
    if was_open and not any(job.state in status.OPEN for job in jobs):
        st.rerun()


def job_summary(job: JobRow) -> str:
    benchmark = job.arguments.get("benchmark", "") if job.kind == "evaluate" else ""
    parts = [job.run_name, f"{job.kind} {benchmark}".strip(), job.activity or status.look(job.state).label]
    return format.literal(" · ".join(parts))
