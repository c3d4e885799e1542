"""The queue: waiting jobs, their expected starts, and buttons to move or cancel them."""

from __future__ import annotations

import time

import streamlit as st

from app.shared import format, intents, run_actions
from app.shared.queue import plan
from app.shared.queue.plan import WaitingJob
from store.db.rows import JobRow

MOST_SHOWN = 10


def queue() -> None:
    """Show a box with the first jobs of the queue; nothing when it is empty."""
    jobs = plan.waiting_jobs(time.time())
    if not jobs:
        return
    with st.container(border=True, key="queue", gap="xsmall"):
        first = jobs[0].starts_in
        soon = "" if first is None else f"; next one starts {moment(first)}"
        st.markdown(f"**Queue** · {len(jobs)} queued{soon}")
        for waiting in jobs[:MOST_SHOWN]:
            _row(waiting, is_last=waiting.place == len(jobs))
        if len(jobs) > MOST_SHOWN:
            st.caption(f"… and {len(jobs) - MOST_SHOWN} more")


def _row(waiting: WaitingJob, *, is_last: bool) -> None:
    job = waiting.job
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"queued_{job.uid}"):
        st.text(sentence(waiting), width="stretch")
        for name, word, icon, enabled in (
            ("earlier", "Move up", ":material/arrow_upward:", waiting.place > 1),
            ("later", "Move down", ":material/arrow_downward:", not is_last),
        ):
            key = f"{name}_{job.uid}"
            if st.button("", icon=icon, key=key, help=word, type="tertiary", disabled=not enabled):
                run_actions.attempt(intents.shift, job, name == "earlier")
                st.rerun()
        word = "Remove from the queue"
        if st.button("", icon=":material/close:", key=f"cancel_{job.uid}", help=word, type="tertiary"):
            run_actions.attempt(intents.stop_job, job)
            st.rerun()


def position_sentence(job: JobRow) -> str | None:
    """Return `Position 2 of 3 in the queue; starts in about 4 min.`, or None if it is no longer queued."""
    jobs = plan.waiting_jobs(time.time())
    mine = next((each for each in jobs if each.job.uid == job.uid), None)
    if mine is None:
        return None
    about = "" if mine.starts_in is None else f"; starts {moment(mine.starts_in)}"
    return f"Position {mine.place} of {len(jobs)} in the queue{about}."


def sentence(waiting: WaitingJob) -> str:
    """Return `2. demo-sft (train) · starts in about 3 min`."""
    job = waiting.job
    about = "" if waiting.starts_in is None else f" · starts {moment(waiting.starts_in)}"
    return f"{waiting.place}. {job.run_name} ({job.kind}){about}"


def moment(seconds: float) -> str:
    return "now" if seconds < 1 else f"in about {format.duration(seconds)}"
