"""Why a run's process ended early, what to change, and the relevant lines of its log, as plain text."""

from __future__ import annotations

import streamlit as st

from app.run import advice
from app.shared import format
from store.db.redaction import redact
from store.db.rows import JobRow, RunDetail


def what_went_wrong(run: RunDetail) -> None:
    """Show the explanation; nothing for a run that is active or finished."""
    job = run.job
    if job is None or not job.error or job.state in ("finished", "queued"):
        return
    job, error = redacted_job(job), redact(job.error or "")
    if job.state == "stopped":
        st.info(format.literal(error), icon=":material/info:")
        return
    known_fault = advice.of(job)
    how = advice.exit_status(job)
    title = f"**{known_fault.label}**{f' · {how}' if how else ''}  \n" if known_fault else ""
    st.error(title + format.literal(error), icon=":material/error:")
    if known_fault is None and not job.traceback:
        return
    with st.expander("Cause, remedies and log", type="compact", key=f"wrong_{job.uid}"):
        if known_fault is not None:
            st.markdown(known_fault.cause + "\n" + "".join(f"\n- {format.literal(knob)}" for knob in known_fault.knobs))
        _log(job)


def redacted_job(job: JobRow) -> JobRow:
    """Return a job without secrets, which older versions and other databases may hold."""
    return job._replace(error=redact(job.error or ""), traceback=redact(job.traceback or "") or None)


def _log(job: JobRow) -> None:
    if not job.traceback:
        return
    excerpt = advice.relevant_lines(job.traceback)
    st.caption("Relevant log lines")
    st.code(excerpt, language=None, wrap_lines=True)
    if excerpt != job.traceback.strip():
        with st.popover("Full traceback", type="tertiary", icon=":material/notes:"):
            st.code(job.traceback, language=None, wrap_lines=True)
