"""The head of a run's page: its state, progress, main figures and actions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import streamlit as st

from app.heartbeats import HEARTBEATS
from app.run.what_went_wrong import what_went_wrong
from app.shared import data, format, intents, run_actions, status
from app.shared.queue.view import position_sentence
from store.db.rows import JobRow, RunDetail, RunRow
from store.recording.silence import silent_since


def run_header(run: RunDetail, row: RunRow, share: Callable[[Sequence[RunDetail]], None]) -> None:
    """Show the head; `share` draws the button that exports runs as a page."""
    now = time.time()
    look = status.look_now(row, now)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            st.title(format.literal(run.name), anchor=False, width="content")
            st.badge(look.label, icon=look.icon, color=look.color)
        with st.container(horizontal=True, width="content"):
            if intents.can_stop(row):
                run_actions.stop_button([row], [run.job.stop_requested if run.job else 0], key="run_stop")
            reason = intents.why_not_resumed(row)
            if reason is None:
                run_actions.resume_button([row], key="run_resume")
            run_actions.branch_button(run, key="run_branch")
            run_actions.clone_button(row, key="run_clone")
            share([run])
            run_actions.tags_button([row], key="run_tags")
            run_actions.delete_button([row], key="run_delete")
    recorded = data.read_clock(run.id).at
    last = float(recorded[-1]) if len(recorded) else None
    still = HEARTBEATS.seconds_since_beat(row.job_id, row.host)
    sentence = status.sentence(row, now, last_step_at=last, still=still)
    st.text(f"{sentence} · {status.steps(row)}" if is_complete(row) else sentence)
    st.caption(format.literal(" · ".join(run_facts(run))))
    if reason is not None and intents.can_resume(row):
        st.caption(format.literal(reason))
    imported_notes(run)
    delivery_note(run, row, now)
    queue_note(run)
    if not is_complete(row):
        run_progress(row)
    activity_progress(run.job)
    what_went_wrong(run)


def run_facts(run: RunDetail) -> list[str]:
    style = " (direct answers)" if run.style == "direct" else ""
    weights = ", ".join(f"{name} × {weight:g}" for name, weight in run.reward_weights.items())
    parts = [
        status.METHODS.get(run.method, run.method) + style,
        f"model {run.model}",
        run.dataset,
        f"LoRA rank {run.lora_rank}" if run.lora_rank else None,
        run.quantization if run.quantization != "none" else None,
        f"seed {run.seed}" if run.seed is not None else None,
        f"rewards {weights}" if weights else None,
        *(f"#{tag}" for tag in run.tags),
    ]
    return [part for part in parts if part]


def imported_notes(run: RunDetail) -> None:
    """Show what to know about an imported run."""
    origin = run.config.get("imported")
    if origin:
        notes = (f"Imported from {origin['from']}; data that it did not record is missing.", *origin["notes"])
        st.caption("\n".join(f"- {format.literal(note)}" for note in notes))


def delivery_note(run: RunDetail, row: RunRow, now: float) -> None:
    """Show how to import what a silent script has not sent, and where it is."""
    if silent_since(row, now) is None:
        return
    folder = run.job.arguments.get("journal") if run.job else None
    where = f" The folder is {format.literal(f'{folder} on {row.host}')}." if folder else ""
    st.caption(f"Import what it has not sent with `python -m store sync FOLDER`, on the database's machine.{where}")


def queue_note(run: RunDetail) -> None:
    """Show a queued run's position, and what a stopping one is still doing."""
    job = run.job
    if job is not None and job.state == "queued" and (where := queue_position(job)):
        st.caption(where)
    elif job is not None and job.state == "stopping":
        st.caption(status.STOPPING.get(job.stop_requested, ""))


def queue_position(job: JobRow) -> str | None:
    """Return where a queued job waits: its position in this machine's queue, or the cluster with its reasons."""
    if job.activity:
        return format.literal(job.activity)
    return "Waiting for the Ray cluster." if job.launcher == "ray" else position_sentence(job)


def activity_progress(job: JobRow | None) -> None:
    """Show the progress of a running job's current activity between two updates, if it reports any."""
    if job is not None and job.state in status.ACTIVE and job.activity and job.total:
        done = min(job.done or 0, job.total)
        activity = format.literal(job.activity)
        st.progress(done / job.total, text=f"{activity[:1].upper()}{activity[1:]}: {done:,} of {job.total:,}")


def is_complete(row: RunRow) -> bool:
    """Return whether a run has nothing left to do, so that a bar of its progress would say nothing."""
    return row.status == "finished" and status.progress(row) == 1.0


def run_progress(row: RunRow) -> None:
    share = status.progress(row)
    if share is None:
        st.text(status.steps(row))
        return
    left = status.seconds_left(row)
    st.progress(share, text=status.steps(row) + (f" · {format.duration(left)} left" if left is not None else ""))
