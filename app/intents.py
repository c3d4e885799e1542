"""What a user may do to runs: stop, resume, delete.

Writes through the store and the launcher, then has pages read anew. What was done comes back as a sentence;
what could not be done comes as a StoreError.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from app import data, status
from store import read, write
from store.rows import RunRow
from trainer import launch


def can_stop(run: RunRow) -> bool:
    return run.status in status.OPEN


def can_resume(run: RunRow) -> bool:
    """True if training ended before its last step."""
    is_over = run.status is not None and run.status not in status.OPEN
    return is_over and run.job_kind == "train" and run.max_steps is not None and run.step < run.max_steps


def stop(run: RunRow, level: int) -> str:
    """Asks the run's latest job to stop (1 after this step, 2 at once, 3 by force) and says what was done."""
    if run.job_uid is None:
        return f"{run.name} has no process to stop."
    store = data.writer()
    done = launch.stop(store, read.job(store, run.job_uid), level)
    data.forget()
    return done


def resume(run: RunRow) -> str:
    launch.resume(data.writer(), run.id)
    data.forget()
    return f"{run.name} is in the queue."


def delete(run: RunRow) -> str:
    """Removes the run, its measurements and its output folder; not while it is active."""
    store = data.writer()
    folder = read.run(store, run.id).output_dir
    write.delete_run(store, run.id)
    # A foreign recorder may name any folder as its own; only those that the launcher made are ours to remove.
    if folder and Path(folder).name == run.uid and Path(folder).parent.name == "runs":
        shutil.rmtree(folder, ignore_errors=True)
    data.forget()
    return f"{run.name} is deleted."
