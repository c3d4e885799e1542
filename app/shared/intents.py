"""The user's actions: stop, resume, embed or delete runs, index datasets.

They write through the store and the launcher, then let pages read anew. Each returns a sentence on what was done, or
raises StoreError or ConfigError.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from app import access, demo, places, recorded
from app.shared import data, format, status
from app.shared.finding import Asked
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
ONLY_UNFINISHED = "Only training that ended before its last step can go on."


def can_stop(run: RunRow) -> bool:
    return run.status in status.OPEN


def can_resume(run: RunRow) -> bool:
    """Return whether training, or the test at its end, ended early."""
    is_over = run.status is not None and run.status not in status.OPEN and run.broken is None
    return is_over and run.job_kind == "train" and run.max_steps is not None and run.status != "finished"


def why_not_resumed(run: RunRow) -> str | None:
    """Return why a run cannot be resumed, in a sentence, or None."""
    if not can_resume(run):
        return ONLY_UNFINISHED
    store = data.reader()
    return launch.folders.why_not_resumed(store, get_run(store, run.id), launch.launcher_of(store, run.id))


def begins_anew(run: RunRow) -> bool:
    """Return whether a run that can be resumed starts from its beginning, in place of what it recorded."""
    store = data.reader()
    return launch.folders.begins_anew(store, get_run(store, run.id), launch.launcher_of(store, run.id))


def strongest_stop(run: RunRow) -> int:
    """Return the strongest stop level: only jobs on other hosts can be given up."""
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
    """Ask one job to stop, more urgently than before, and return what was done."""
    done = launch.stop(data.writer(), job, job.stop_requested + 1)
    data.forget()
    return done


def shift(job: JobRow, earlier: bool) -> str:
    """Swap a job with its neighbour in the queue."""
    moved = shift_job(data.writer(), job.id, earlier=earlier)
    data.forget()
    return f"{job.run_name} starts {'earlier' if earlier else 'later'}." if moved else "It is no longer in the queue."


def stop_experiment(uid: str, level: int) -> str:
    """Ask all jobs of an experiment to stop: level 1 is a pause, from which `resume_experiment` goes on."""
    asked = experiments.stop_experiment(data.writer(), uid, level)
    data.forget()
    if level > 1:
        return f"{asked} jobs were told to end."
    return f"{asked} jobs pause: what is at work finishes its step and saves."


def resume_experiment(uid: str) -> str:
    count = experiments.resume_experiment(data.writer(), uid)
    data.forget()
    return f"{count} jobs are in the queue again." if count else "Nothing to resume yet: wait until all has stopped."


def extend_experiment(uid: str, more: Matrix) -> str:
    """Launch the runs that an experiment gains by further seeds or values. Raises ConfigError."""
    count = experiments.extend_experiment(data.writer(), uid, more)
    data.forget()
    return f"{count} more runs are in the queue."


def evaluate(run: RunDetail, arguments: dict[str, Any]) -> str:
    """Queue an evaluation; `arguments` are those of `trainer.launch.evaluate`. Raises ConfigError."""
    if arguments.get("path"):
        arguments = arguments | {"path": places.check("path", arguments["path"])}
    asked = benchmark.find(from_dict(run.config), arguments)
    launch.evaluate(data.writer(), run.id, arguments)
    data.forget()
    return f"{asked.name} is in the queue."


def embed(runs: Sequence[RunRow], encoder: str) -> str:
    """Queue the embedding of the runs' answers, one job each. Raises ConfigError."""
    if places.is_path(encoder):
        places.check("evaluation.encoder", encoder)
    jobs = launch.embed(data.writer(), [run.id for run in runs], encoder)
    data.forget()
    return f"{len(jobs)} {'job is' if len(jobs) == 1 else 'jobs are'} in the queue."


def measure_tokens(run: RunDetail, row: StoredCompletion) -> str:
    launch.measure_tokens(data.writer(), run.id, row.id)
    data.forget()
    return f"The tokens of completion {row.id} are in the queue."


def start_demo() -> str:
    """Queue the two demonstration runs."""
    done = demo.start_once(data.writer())
    data.forget()
    return done


def show_recorded() -> str:
    """Take in the recorded experiment."""
    loaded = recorded.load(data.writer())
    data.forget()
    return f"{loaded} recorded runs are here." if loaded else "The recorded runs are here already."


def remove_recorded() -> str:
    """Delete the recorded experiment."""
    removed = recorded.remove(data.writer())
    data.forget()
    return f"{removed} recorded runs are removed."


def resume(run: RunRow) -> str:
    launch.resume(data.writer(), run.id)
    data.forget()
    return f"{run.name} is in the queue."


def folder_of(run: RunRow) -> Path | None:
    """Return the run's output folder, if it says that it belongs to this run: only then may it be removed."""
    return deletion.folder_of(data.reader(), run.uid)


def delete(run: RunRow) -> str:
    """Delete the run, its measurements and its output folder, unless it is active."""
    deletion.delete(data.writer(), run.id, run.uid)
    data.forget()
    return f"{run.name} is deleted."


def remove_orphans() -> str:
    """Remove what no run needs. Raises StoreError while a job or indexing is active."""
    removed = orphans.remove(data.writer())
    data.forget()
    return f"{format.memory(removed.size)} are free again."


def index(dataset: str, folder: str, split: str, limit: int) -> str:
    """Start to index a split in a separate process; `folder` is empty for a drawn or downloaded dataset."""
    path = places.check("data.path", folder) if folder.strip() else None
    known = from_dict({"method": "none", "data": {"dataset": dataset, "path": path}}).data
    indexing.start(data.writer(), known, split, limit)
    data.forget()
    return f"{dataset} ({split}) is being indexed."


def dismiss(index: IndexRow) -> str:
    """Remove a failed index, with the earlier figures of the same folder."""
    drop_index(data.writer(), index.id)
    data.forget()
    return f"{index.name} ({index.split}) is forgotten."


def tag_runs(runs: Sequence[RunRow], tags: Sequence[str]) -> str:
    """Give runs these tags, in place of those that all of them have. Raises StoreError."""
    writer = data.writer()
    for run in runs:
        for name in set(tags) - set(run.tags):
            add_tag(writer, run.id, name)
        for name in shared_tags(runs) - set(tags):
            remove_tag(writer, run.id, name)
    data.forget()
    return "Tagged." if tags else "The tags are gone."


def change_run(run: RunRow, *, name: str | None = None, note: str | None = None) -> str:
    """Give a run another name or another note, whichever is not None. Raises StoreError for a name without a word."""
    if name is not None and not name.strip():
        raise StoreError("A run needs a name: type one.")
    changed = {"name": name and name.strip()[:LONGEST_NAME], "note": note}
    describe_run(data.writer(), run.id, **{key: value for key, value in changed.items() if value is not None})
    data.forget()
    return f"{run.name} is changed."


def save_view(page: str, name: str, address: str) -> str:
    """Save the address of a page under a name, for all who use the database. Raises StoreError."""
    views.save_view(data.writer(), page, name, address)
    data.forget()
    return f"{name.strip()} is saved."


def delete_view(page: str, name: str) -> str:
    views.delete_view(data.writer(), page, name)
    data.forget()
    return f"{name} is deleted."


def shared_tags(runs: Sequence[RunRow]) -> set[str]:
    return set.intersection(*(set(run.tags) for run in runs)) if runs else set()


def tag_found(asked: Asked, name: str) -> str:
    """Tag all results of a search. Raises StoreError if there are too many."""
    found = iter_found(data.reader(), asked.wanted, asked.order, asked.matcher())
    ids = [row.id for row in islice(found, MOST_TAGGED + 1)]
    if len(ids) > MOST_TAGGED:
        raise StoreError(f"More than {MOST_TAGGED:,} completions match: narrow the selection before you tag it.")
    tag_traces(data.writer(), "completion", ids, name)
    data.forget()
    return f"{len(ids):,} completions are tagged."


def dataset_of(asked: Asked) -> str:
    """Make a dataset beside the database from the right traces of a search; return its folder. Raises StoreError."""
    access.require_write()
    store = data.reader()
    folder = store.folder / "selections" / time.strftime("selection-%Y%m%d-%H%M%S")
    right = asked.wanted._replace(correct=True)
    export.write_dataset(store, iter_found(store, right, asked.order, asked.matcher()), folder)
    return str(folder)
