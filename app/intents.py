"""What a user may do: stop, resume or delete runs, index datasets.

Writes through the store and the launcher, then has pages read anew. What was done comes back as a sentence;
what could not be done comes as a StoreError or a ConfigError.
"""

from __future__ import annotations

import shutil
import time
from itertools import islice
from pathlib import Path
from typing import Any

from app import data, status
from app.finding import Asked
from store import export, read, write
from store.engine import StoreError
from store.rows import IndexRow, JobRow, RunDetail, RunRow
from trainer import benchmark, launch
from trainer.config import from_dict
from trainer.launch import indexing

MOST_TAGGED = 50_000


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


def stop_job(job: JobRow) -> str:
    """Asks one job to stop, more urgently than it was asked before, and says what was done."""
    done = launch.stop(data.writer(), job, min(job.stop_requested + 1, 3))
    data.forget()
    return done


def evaluate(run: RunDetail, arguments: dict[str, Any]) -> str:
    """Queues an evaluation; `arguments` as `trainer.launch.evaluate` takes them. Raises ConfigError."""
    asked = benchmark.find(from_dict(run.config), arguments)
    launch.evaluate(data.writer(), run.id, arguments)
    data.forget()
    return f"{asked.name} is in the queue."


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


def index(dataset: str, folder: str, split: str, limit: int) -> str:
    """Starts to index a split in a process of its own; `folder` is empty for a set that is drawn or fetched."""
    path = str(Path(folder.strip()).expanduser().absolute()) if folder.strip() else None
    known = from_dict({"method": "none", "data": {"dataset": dataset, "path": path}}).data
    indexing.start(data.writer(), known, split, limit)
    data.forget()
    return f"{dataset} ({split}) is being indexed."


def dismiss(index: IndexRow) -> str:
    """Forgets an indexing that failed, with what an earlier one of the same folder had found."""
    write.drop_index(data.writer(), index.id)
    data.forget()
    return f"{index.name} ({index.split}) is forgotten."


def tag_found(asked: Asked, name: str) -> str:
    """Tags everything that a search finds. Raises StoreError when it is too much."""
    found = read.iter_found(data.reader(), asked.wanted, asked.order, asked.matcher())
    ids = [row.id for row in islice(found, MOST_TAGGED + 1)]
    if len(ids) > MOST_TAGGED:
        raise StoreError(f"More than {MOST_TAGGED:,} completions are found: narrow the selection before you tag it.")
    write.tag_traces(data.writer(), "completion", ids, name)
    data.forget()
    return f"{len(ids):,} completions are tagged."


def dataset_of(asked: Asked) -> str:
    """The folder of a new dataset beside the database: the right traces that a search finds. Raises StoreError."""
    store = data.reader()
    folder = store.media.parent / "selections" / time.strftime("selection-%Y%m%d-%H%M%S")
    right = asked.wanted._replace(correct=True)
    export.write_dataset(store, read.iter_found(store, right, asked.order, asked.matcher()), folder)
    return str(folder)
