"""Detect silent scripts: a recorder reports every two seconds, whatever its training does."""

from __future__ import annotations

import time

from store.db.rows import JobRow, RunRow
from store.db.states import ACTIVE
from store.recording.records import RECORDED

SILENT_SECONDS = 60.0
HINT = "Import what a silent script did not deliver, on the machine with the database: python -m store sync FOLDER"


def silent_since(run: RunRow, now: float) -> float | None:
    """Return when an active run's script last reported, if that is too long ago; otherwise None.

    Only on its own machine is it known whether the script was killed; a disconnected script may come back.
    """
    return _since(run.status, run.spoke_at, now) if run.dataset == RECORDED else None


def job_silent_since(job: JobRow, now: float) -> float | None:
    """Return the same for the job of a script; None for other jobs."""
    return _since(job.state, job.spoke_at, now) if job.arguments.get("recorded") else None


def _since(state: str | None, spoke_at: float | None, now: float) -> float | None:
    is_silent = state in ACTIVE and spoke_at is not None and now - spoke_at > SILENT_SECONDS
    return spoke_at if is_silent else None


def in_words(since: float) -> str:
    return f"silent since {time.strftime('%Y-%m-%d %H:%M', time.gmtime(since))} UTC"
