"""The active runs beside the tour: what each is doing, a progress bar per phase, and the latest answer."""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamlit as st

from app.heartbeats import HEARTBEATS
from app.latest_group import latest_answer, latest_group
from app.shared import data, format, status
from store.db.rows import EvaluationRow, RunRow

RUN_PAGE = "../pages/run.py"
TRACES_PAGE = "../pages/traces.py"
MOST = 2
"""Maximum number of runs shown."""


@st.fragment(run_every=2.0)
def live() -> None:
    """Show the active runs, or say that there are none."""
    runs = [run for run in data.list_runs(open_only=True) if run.status in status.ACTIVE and run.broken is None]
    st.header("Live on this machine", anchor=False)
    if not runs:
        st.caption("No active runs.")
        return
    shown_runs = sorted(runs, key=lambda run: run.method in status.SAMPLES_NOTHING)[:MOST]
    for run in shown_runs:
        with st.container(border=True, key=f"live_{run.uid}"):
            query = {"run": run.uid}
            label = f"{format.literal(run.name)}: open curves"
            st.page_link(RUN_PAGE, label=label, icon=":material/monitoring:", query_params=query)
            steps = data.read_clock(run.id).at
            last = float(steps[-1]) if len(steps) else None
            still = HEARTBEATS.seconds_since_beat(run.job_id, run.host)
            st.text(status.sentence(run, time.time(), last_step_at=last, still=still))
            phases(run, data.list_evaluations(run.id))
    if len(runs) > MOST:
        st.caption(f"{len(runs) - MOST} more on the Runs page.")
    show_latest_answer(shown_runs)


def show_latest_answer(runs: Sequence[RunRow]) -> None:
    """Show the latest group of the first run that has one, else an answer to a held-out example."""
    details = [data.get_run(run.id) for run in runs]
    if not any(latest_group(run, TRACES_PAGE) for run in details):
        any(latest_answer(run, TRACES_PAGE) for run in details)


def phases(run: RunRow, evaluations: list[EvaluationRow]) -> None:
    """Show a bar for each phase: loading, measuring the starting policy, training, and the current evaluation."""
    first = [each for each in evaluations if each.step == 0]
    is_loaded = bool(first) or run.step > 0
    st.progress(1.0 if is_loaded else 0.0, text="Load model and data" + ("" if is_loaded else ": running"))
    done, total = sum(each.done for each in first), sum(each.total for each in first)
    text = f"Measure the starting policy: {done} of {total} answers" if total else "Measure the starting policy"
    st.progress(min(1.0, done / total) if total else 0.0, text=text)
    left = status.seconds_left(run)
    remaining = f", {format.duration(left)} left" if left is not None else ""
    st.progress(status.progress(run) or 0.0, text=f"Train: {status.steps(run)}{remaining}")
    now = [each for each in evaluations if each.step > 0 and each.ended_at is None]
    if now:
        name = status.EVALUATED.get(now[-1].kind, now[-1].kind)
        share = min(1.0, now[-1].done / max(1, now[-1].total))
        st.progress(share, text=f"Evaluate ({name}): {now[-1].done} of {now[-1].total} answers")
