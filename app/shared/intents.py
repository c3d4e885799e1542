"""The user's actions: stop, resume, embed or delete runs, index datasets.

They write through the store and the launcher, then clear the pages' caches. Each returns a sentence on what was done,
or raises StoreError or ConfigError.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from app import access, demo, places, recorded
from app.shared import data, format, status
from app.shared.trace_search import Search
from store import views
from store.care import deletion, export, orphans
from store.completions.find import iter_found
from store.datasets import drop_index
from store.db.engine import StoreError
from store.db.rows import IndexRow, JobRow, RunDetail, RunRow, StoredCompletion
from store.jobs import get_job, shift_job
from store.notes import tag_traces
from store.runs import add_tag, describe_run, get_run, remove_tag
from trainer import launch
from trainer.launch import experiments, indexing
from trainer.spec import benchmark
from trainer.spec.config import from_dict
from trainer.spec.experiments import Matrix

MOST_TAGGED, LONGEST_NAME = 50_000, 200
ONLY_UNFINISHED = "Only a run that ended before its last step can be resumed."


def can_stop(run: RunRow) -> bool:
    return run.status in status.OPEN


def can_resume(run: RunRow) -> bool:
    """Return whether training, or its final test, ended early."""
    is_over = run.status is not None and run.status not in status.OPEN and run.broken is None
    return is_over and run.job_kind == "train" and run.max_steps is not None and run.status != "finished"


def why_not_resumed(run: RunRow) -> str | None:
    """Return a sentence that says why a run cannot be resumed, or None if it can."""
    if not can_resume(run):
        return ONLY_UNFINISHED
    store = data.reader()
    return launch.folders.why_not_resumed(store, get_run(store, run.id), launch.launcher_of(store, run.id))


def begins_anew(run: RunRow) -> bool:
    """Return whether resuming a run restarts it from step 0 and replaces what it recorded."""
    store = data.reader()
    return launch.folders.begins_anew(store, get_run(store, run.id), launch.launcher_of(store, run.id))


def strongest_stop(run: RunRow) -> int:
    """Return the strongest stop level: only jobs on other hosts can be marked as lost."""
    return launch.strongest_stop(run.host)


def stop(run: RunRow, level: int) -> str:
    """Ask the run's latest job to stop (a level of `status.STOP_LEVELS`), and return what was done."""
    if run.job_uid is None:
        return f"{run.name} has no process to stop."
    store = data.writer()
    done = launch.stop(store, get_job(store, run.job_uid), level)
    data.forget()
    return done


def stop_job(job: JobRow) -> str:
    """Ask one job to stop, one level stronger than before, and return what was done."""
    done = launch.stop(data.writer(), job, job.stop_requested + 1)
    data.forget()
    return done


def shift(job: JobRow, earlier: bool) -> str:
    """Swap a job with its neighbour in the queue."""
    moved = shift_job(data.writer(), job.id, earlier=earlier)
    data.forget()
    return f"{job.run_name} moved {'up' if earlier else 'down'}." if moved else f"{job.run_name} is no longer queued."


def stop_experiment(uid: str, level: int) -> str:
    """Ask all jobs of an experiment to stop; level 1 is a pause, which `resume_experiment` ends."""
    count = experiments.stop_experiment(data.writer(), uid, level)
    data.forget()
    if level > 1:
        return f"Stopping {format.pluralize(count, 'job')}."
    return f"Pausing {format.pluralize(count, 'job')}: active ones finish their step and save a checkpoint."


def resume_experiment(uid: str) -> str:
    count = experiments.resume_experiment(data.writer(), uid)
    data.forget()
    again = f"Queued {format.pluralize(count, 'job')} again."
    return again if count else "Nothing to resume yet: wait until all jobs have stopped."


def extend_experiment(uid: str, more: Matrix) -> str:
    """Launch the runs that more seeds or values add to an experiment. Raises ConfigError."""
    count = experiments.extend_experiment(data.writer(), uid, more)
    data.forget()
    return f"Queued {count} more runs."


def evaluate(run: RunDetail, arguments: dict[str, Any]) -> str:
    """Queue an evaluation; `arguments` go to `trainer.launch.evaluate`. Raises ConfigError."""
    if arguments.get("path"):
        arguments = arguments | {"path": places.check("path", arguments["path"])}
    target = benchmark.find(from_dict(run.config), arguments)
    launch.evaluate(data.writer(), run.id, arguments)
    data.forget()
    return f"Queued an evaluation on {target.name}."


def embed(runs: Sequence[RunRow], encoder: str) -> str:
    """Queue one job per run that embeds its answers. Raises ConfigError."""
    if places.is_path(encoder):
        places.check("evaluation.encoder", encoder)
    jobs = launch.embed(data.writer(), [run.id for run in runs], encoder)
    data.forget()
    return f"Queued {len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}."


def measure_tokens(run: RunDetail, row: StoredCompletion) -> str:
    launch.measure_tokens(data.writer(), run.id, row.id)
    data.forget()
    return f"Queued the token measurement of completion {row.id}."


def start_demo() -> str:
    """Queue the two demo runs."""
    done = demo.start_once(data.writer())
    data.forget()
    return done


def show_recorded() -> str:
    """Import the recorded experiment."""
    loaded = recorded.load(data.writer())
    data.forget()
    return f"Imported {loaded} recorded runs." if loaded else "The recorded runs are already in the database."


def remove_recorded() -> str:
    """Delete the recorded experiment."""
    removed = recorded.remove(data.writer())
    data.forget()
    return f"Removed {removed} recorded runs."


def resume(run: RunRow) -> str:
    launch.resume(data.writer(), run.id)
    data.forget()
    return f"Queued {run.name}."


def folder_of(run: RunRow) -> Path | None:
    """Return the run's output folder if it is marked as this run's: only then may it be removed."""
    return deletion.folder_of(data.reader(), run.uid)


def delete(run: RunRow) -> str:
    """Delete the run, its data and its output folder, unless it is active."""
    deletion.delete(data.writer(), run.id, run.uid)
    data.forget()
    return f"Deleted {run.name}."


def remove_orphans() -> str:
    """Remove data that no run uses. Raises StoreError while a job or indexing is active."""
    removed = orphans.remove(data.writer())
    data.forget()
    return f"Freed {format.memory(removed.size)}."


def index(dataset: str, folder: str, split: str, limit: int) -> str:
    """Start indexing a split in a separate process; `folder` is empty for a drawn or downloaded dataset."""
    path = places.check("data.path", folder) if folder.strip() else None
    data_config = from_dict({"method": "none", "data": {"dataset": dataset, "path": path}}).data
    indexing.start(data.writer(), data_config, split, limit)
    data.forget()
    return f"Indexing {dataset} ({split})."


def dismiss(index: IndexRow) -> str:
    """Remove a failed index, and the earlier figures of the same folder."""
    drop_index(data.writer(), index.id)
    data.forget()
    return f"Dismissed {index.name} ({index.split})."


def tag_runs(runs: Sequence[RunRow], tags: Sequence[str]) -> str:
    """Replace the tags that all of the runs share by these. Raises StoreError."""
    writer = data.writer()
    for run in runs:
        for name in set(tags) - set(run.tags):
            add_tag(writer, run.id, name)
        for name in shared_tags(runs) - set(tags):
            remove_tag(writer, run.id, name)
    data.forget()
    return "Tags saved." if tags else "Tags removed."


def change_run(run: RunRow, *, name: str | None = None, note: str | None = None) -> str:
    """Change a run's name or note, whichever is not None. Raises StoreError for a blank name."""
    if name is not None and not name.strip():
        raise StoreError("A run needs a name: enter one.")
    values = {"name": name and name.strip()[:LONGEST_NAME], "note": note}
    describe_run(data.writer(), run.id, **{key: value for key, value in values.items() if value is not None})
    data.forget()
    return f"Saved {run.name}."


def save_view(page: str, name: str, address: str) -> str:
    """Save a page's URL parameters under a name, for all users of the database. Raises StoreError."""
    views.save_view(data.writer(), page, name, address)
    data.forget()
    return f"Saved {name.strip()}."


def delete_view(page: str, name: str) -> str:
    views.delete_view(data.writer(), page, name)
    data.forget()
    return f"Deleted {name}."


def shared_tags(runs: Sequence[RunRow]) -> set[str]:
    return set.intersection(*(set(run.tags) for run in runs)) if runs else set()


def tag_found(search: Search, name: str) -> str:
    """Tag all results of a search. Raises StoreError if there are too many."""
    rows = iter_found(data.reader(), search.filter, search.order, search.matcher())
    ids = [row.id for row in islice(rows, MOST_TAGGED + 1)]
    if len(ids) > MOST_TAGGED:
        raise StoreError(f"More than {MOST_TAGGED:,} completions match: narrow the search before you tag its results.")
    tag_traces(data.writer(), "completion", ids, name)
    data.forget()
    return f"Tagged {format.pluralize(len(ids), 'completion')}."


def dataset_of(search: Search) -> str:
    """Write the correct traces of a search as a dataset beside the database; return its folder. Raises StoreError."""
    access.require_write()
    store = data.reader()
    folder = store.folder / "selections" / time.strftime("selection-%Y%m%d-%H%M%S")
    right = search.filter._replace(correct=True)
    export.write_dataset(store, iter_found(store, right, search.order, search.matcher()), folder)
    return str(folder)
