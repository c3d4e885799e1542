"""Embedding of traces: the button that starts it, its progress, and its errors."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.drift import vectors
from app.shared import data, format, intents, status
from app.shared.run_actions import attempt
from store.db.engine import Store
from store.db.rows import JobRow, RunRow
from store.embeddings import EncoderRow

_SEEN = "embedding.open"


def show(store: Store, runs: Sequence[RunRow]) -> EncoderRow | None:
    """Show the state in one line; return the encoder of the runs' embeddings, None before there are any."""
    name = vectors.encoder_name(store, runs)
    is_open = bool(_open_jobs(store, runs))
    st.fragment(_progress, run_every=2.0 if is_open else None)(runs)
    used = vectors.encoder(store, runs)
    if is_open:
        return used
    left = vectors.count_missing(store, runs, used)
    if not left:
        return used
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"{format.pluralize(left, 'trace')} {'is' if left == 1 else 'are'} not embedded with "
            f"{format.literal(name)} yet: embed {'it' if left == 1 else 'them'} to see similarities and the map."
        )
        if st.button(
            "Embed traces",
            icon=":material/scatter_plot:",
            key="embed",
            help="Queues a job that embeds all evaluation answers of these runs. It continues when the browser is "
            "closed, and embeds each text only once.",
        ):
            attempt(intents.embed, runs, name)
            st.rerun()
    return used


def _progress(runs: Sequence[RunRow]) -> None:
    """Show running jobs and the latest failure; rerun the page when the last job has ended."""
    store = data.reader()
    jobs = _open_jobs(store, runs)
    for job in jobs:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.progress((job.done or 0) / job.total if job.total else 0.0, _words(store, job), width="stretch")
            if st.button(status.STOP_LEVELS[min(job.stop_requested + 1, 3)][0], key=f"embed-stop-{job.uid}"):
                attempt(intents.stop_job, job)
                st.rerun(scope="fragment")
    if st.session_state.get(_SEEN) and not jobs:
        st.session_state[_SEEN] = False
        st.rerun(scope="app")
    st.session_state[_SEEN] = bool(jobs)
    if not jobs:
        _fault(store, runs)


def _words(store: Store, job: JobRow) -> str:
    name = format.literal(job.run_name)
    if job.state == "queued":
        ahead = sum(other.position < job.position for other in data.list_jobs(open_only=True))
        return f"{name}: queued behind {ahead} {'job' if ahead == 1 else 'jobs'}"
    if not job.total:
        return f"{name}: {format.literal(job.activity or status.look(job.state).label)}"
    return f"{name}: {format.count(job.done)} of {format.count(job.total)} texts embedded"


def _fault(store: Store, runs: Sequence[RunRow]) -> None:
    """Show why the latest job of a run failed."""
    for run in runs:
        jobs = [job for job in data.list_jobs(run_id=run.id) if job.kind == "embed"]
        if jobs and jobs[-1].state not in ("finished", "stopped") and jobs[-1].error:
            fault = f"Embedding the traces of {run.name} failed. {jobs[-1].error}"
            st.error(format.literal(fault), icon=":material/error:")


def _open_jobs(store: Store, runs: Sequence[RunRow]) -> list[JobRow]:
    ids = {run.id for run in runs}
    return [job for job in data.list_jobs(open_only=True) if job.kind == "embed" and job.run_id in ids]
