"""Close jobs whose process has died, and say why. Reads process states and logs, and sends no signals.

A process normally closes its own job, so only jobs whose process died unexpectedly are left to close here.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import NamedTuple

from store.db.engine import Store
from store.db.rows import JobRow
from store.db.states import JobState, Launcher
from store.jobs import end_job, get_job, list_jobs
from store.recording import leftover
from store.recording.records import End
from trainer.launch import identity, local, webhook
from trainer.launch.identity import Identity
from trainer.spec import errors

LOG_BYTES = 20_000
LOG_LINES = 60
_LEFT_BEHIND = "Import what it left in its folder with `python -m store sync FOLDER`."
_STOPPED_CODES = (130, 143, -signal.SIGTERM, -signal.SIGINT)
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class Ending(NamedTuple):
    """How a process ended, as the arguments of `store.jobs.end_job`."""

    state: JobState
    error: str
    kind: str | None = None


def process_of(job: JobRow) -> Identity | None:
    """Return the job's process, found by its environment if it has not reported yet; None if there is none."""
    if job.pid is None or job.host is None:
        return local.find(job.uid)
    return Identity(job.host, job.boot_id, job.pid, job.pid_started)


def is_gone(job: JobRow) -> bool:
    """Return whether the process of an active job of this host has died."""
    process = process_of(job)
    if process is not None and process.started is None and job.arguments.get("recorded"):
        return identity.start_time(process.pid) is None  # a script on a system that does not report start times
    return process is None or not identity.is_alive(process)


def active_here(store: Store) -> list[JobRow]:
    """Return the jobs that should have a process on this host, without those that a cluster watches."""
    jobs = [job for job in list_jobs(store, open_only=True) if job.launcher == Launcher.LOCAL]
    return [job for job in jobs if job.state != JobState.QUEUED and job.host == identity.host()]


def close_gone(store: Store) -> list[str]:
    """Close the jobs of this host whose process has died, and return sentences that say which and why.

    Jobs whose process is alive are left alone, like those of other hosts.
    """
    return [sentence for job in active_here(store) if is_gone(job) for sentence in close(store, job.uid)]


def close(store: Store, job_uid: str, exit_code: int | None = None) -> list[str]:
    """Close a job whose process has died and kill its remaining children. Return a sentence, or none if it was closed.

    `exit_code` is negative for a signal, and None if it is unknown.
    """
    job = get_job(store, job_uid)
    if not is_gone(job):
        return []  # another process closes it, or its process has reported in the meantime
    if job.arguments.get("recorded") and (last_record := leftover.last_word(store, job)) is not None:
        return _close_as_recorded(store, job, last_record)
    log = _log_of(store, job)
    ending = judge(job, exit_code, log)
    local.sweep(job.uid)
    ended = end_job(
        store,
        job.id,
        ending.state,
        exit_code=exit_code,
        error_kind=ending.kind,
        error=ending.error,
        traceback=log or None,
    )
    if not ended:
        return []
    webhook.send_end(store, job.uid)
    return [f"Job {job.uid} of {job.run_name}: {ending.error}"]


def _close_as_recorded(store: Store, job: JobRow, last_record: End) -> list[str]:
    """Close the job of a script that ended while no dashboard was running, as recorded in its journal."""
    state = JobState(last_record.state)
    code = 1 if state == JobState.FAILED else 0
    if not end_job(store, job.id, state, exit_code=code, error=last_record.error, at=last_record.at):
        return []
    webhook.send_end(store, job.uid)
    return [f"Job {job.uid} of {job.run_name}: {state.value}, according to its journal."]


def judge(job: JobRow, exit_code: int | None, log: str) -> Ending:
    """Return state and reason for a process that ended without closing its job."""
    is_script = job.arguments.get("recorded")
    if job.boot_id is not None and job.boot_id != identity.boot_id():
        if is_script:
            return Ending(JobState.LOST, "The machine was restarted while the script was running. " + _LEFT_BEHIND)
        return Ending(JobState.LOST, "The machine was restarted while the job was running. Resume the run.")
    if job.stop_requested >= 3 and (exit_code is None or exit_code < 0):
        return Ending(JobState.KILLED, "Killed on request; progress since the last checkpoint is lost.")
    if job.stop_requested and (exit_code in _STOPPED_CODES or (exit_code is None and job.stop_requested == 2)):
        return Ending(JobState.STOPPED, "Stopped on request.")
    if exit_code is not None and exit_code < 0:
        return Ending(JobState.KILLED, _killed_by(-exit_code))
    last = last_exception(log)
    if exit_code is None and last is None:
        if job.pid is None:
            return Ending(JobState.LOST, "The process was never started. Resume the run.")
        if is_script:  # the recorder reports how its script ended, unless it is killed
            return Ending(JobState.KILLED, "The script was killed or crashed. " + _LEFT_BEHIND)
        return Ending(
            JobState.LOST, "The process died without an error message: killed, or out of memory. Resume the run."
        )
    code = "" if exit_code is None else f" with exit code {exit_code}"
    if last is None and exit_code == errors.NO_DISK:
        problem = "The disk with the run or the database could not be written."
        return Ending(JobState.FAILED, f"{problem} Free space, then resume the run.", "disk")
    if last is None:
        return Ending(JobState.FAILED, f"The process ended{code} without an error message; see the log.", "bug")
    kind, advice = errors.classify_line(last) or ("bug", "")
    state = JobState.OUT_OF_MEMORY if kind == "out_of_memory" else JobState.FAILED
    return Ending(state, f"The process ended{code}: {last}. {advice}".rstrip(), kind)


def _killed_by(number: int) -> str:
    name = signal.Signals(number).name if number in signal.valid_signals() else "unknown"
    if number == signal.SIGKILL:
        advice = "If nobody did that, the machine ran out of memory: lower optimization.batch_size or the model's size."
        return f"Killed by signal {number} ({name}). {advice}"
    if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        return f"Killed by signal {number} ({name}). Resume the run."
    return f"Crashed in a library with signal {number} ({name}); see the log."


def _log_of(store: Store, job: JobRow) -> str:
    """Return the end of a job's log; its run's log if it never reported, and nothing for a job in a terminal."""
    path = local.log_path(store, job.run_uid) if job.pid is None else Path(job.log_path or "")
    return log_tail(path, job.uid)


def log_tail(path: Path, job_uid: str) -> str:
    """Return the last lines that a job wrote to its run's log; empty if there are none."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - LOG_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    text = _ESCAPES.sub("", text).rpartition(f"{local.log_header(job_uid)}\n")[2]
    lines = [line.rpartition("\r")[2] for line in text.rstrip().split("\n")]
    return "\n".join(lines[-LOG_LINES:])


def last_exception(log: str) -> str | None:
    """Return the line with the exception of the last traceback in a log."""
    _, marker, traceback = log.rpartition("Traceback (most recent call last):\n")
    if not marker:
        return None
    unindented = [line for line in traceback.splitlines() if line and not line[0].isspace()]
    return unindented[0][:500].rstrip(".") if unindented else None
