"""When a script fell silent: its recorder calls every two seconds, whatever its training does."""

from __future__ import annotations

import time

from store.db.rows import JobRow, RunRow
from store.db.states import ACTIVE
from store.recording.records import RECORDED

SILENT_SECONDS = 60.0
HINT = "Take in what a silent script did not deliver, where the database is: python -m store sync FOLDER"


def silent_since(run: RunRow, now: float) -> float | None:
    """Return when the script of a run that counts as active was last heard of, if that is too long ago; else None.

    Whether it was killed is known on its own machine alone; one that was cut off may come back.
    """
    return _since(run.status, run.spoke_at, now) if run.dataset == RECORDED else None


def job_silent_since(job: JobRow, now: float) -> float | None:
    """Return the same for the job of a script; None for any other job."""
    return _since(job.state, job.spoke_at, now) if job.arguments.get("recorded") else None


def _since(state: str | None, spoke_at: float | None, now: float) -> float | None:
    is_silent = state in ACTIVE and spoke_at is not None and now - spoke_at > SILENT_SECONDS
    return spoke_at if is_silent else None


def in_words(since: float) -> str:
    return f"silent since {time.strftime('%Y-%m-%d %H:%M', time.gmtime(since))} UTC"
