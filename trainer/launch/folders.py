"""Manage a run's output folder, which belongs to that run alone, and find the checkpoint that it resumes from.

In a copied database, a run's folder still belongs to the original. The run gets a new folder next to its own database,
to which its checkpoints are copied, so that the original stays unchanged and can be resumed as well.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from store.db import ownership
from store.db.engine import Store, StoreError
from store.db.rows import CheckpointRow, RunDetail
from store.db.states import JobState, Launcher
from store.evaluations.records import list_evaluations
from store.events import add_event, list_checkpoints, move_checkpoints
from store.runs import describe_run, get_run
from trainer.models.checkpoints import START, WEIGHTS

STATE = "trainer_state.json"
"""Files that a resumable checkpoint needs in addition to the weights."""


def own_folder(store: Store, run_id: int) -> Path:
    """Return the run's output folder, created and marked as its own; copy its checkpoints there if they are elsewhere.

    Raises StoreError if the folder cannot be created.
    """
    run = get_run(store, run_id)
    if run.output_dir and ownership.owns(store, run.uid, Path(run.output_dir)):
        return Path(run.output_dir)
    folder = ownership.folder_of(store, run.uid)
    try:
        if not ownership.claim(store, run.uid, folder):
            raise StoreError(f"{folder} belongs to another run or another database. Move it away.")
        if run.output_dir and Path(run.output_dir) != folder:
            _bring(store, run, Path(run.output_dir), folder)
    except OSError as error:
        raise StoreError(
            f"Cannot write to {folder} ({error.strerror}). Change its permissions, or choose another --db."
        ) from None
    describe_run(store, run_id, output_dir=str(folder))
    return folder


def _bring(store: Store, run: RunDetail, old: Path, folder: Path) -> None:
    """Copy the checkpoints from which a run continues, and record their new location in the database."""
    copied = {}
    for row in list_checkpoints(store, run.id):
        source = _checkpoint_path(row, run, folder)
        if source is not None:
            copied[row.path] = _copy_checkpoint(source, folder)
    if (old / START / WEIGHTS).is_file():
        _copy_checkpoint(old / START, folder)
    move_checkpoints(store, run.id, {path: str(new) for path, new in copied.items()})
    if copied:
        add_event(store, run.id, "moved", f"Continuing in {folder}, because {old} does not belong to this database.")


def _copy_checkpoint(source: Path, folder: Path) -> Path:
    """Copy a checkpoint into the folder, completely or not at all, and return its path."""
    target = folder / source.name
    if not target.is_dir():
        unfinished = folder / f".{source.name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished, symlinks=True)
        unfinished.replace(target)
    return target


def _checkpoint_path(row: CheckpointRow, run: RunDetail, folder: Path) -> Path | None:
    """Return a checkpoint's path: as recorded, or in the run's folder if that was moved with its database."""
    for place in (Path(row.path), folder / Path(row.path).name):
        holder = ownership.owner(place.parent)
        if (holder is None or holder.run == run.uid) and (place / WEIGHTS).is_file():
            return place
    return None


def last_checkpoint(store: Store, run: RunDetail) -> Path | None:
    """Return the checkpoint folder from which a resumed run would continue, if it is on this machine."""
    for row in list_checkpoints(store, run.id):
        if row.kind == "last":
            folder = _checkpoint_path(row, run, ownership.folder_of(store, run.uid))
            return folder if folder is not None and (folder / STATE).is_file() else None
    return None


def begins_anew(store: Store, run: RunDetail, launcher: str = Launcher.LOCAL) -> bool:
    """Return whether a resumed run would start over, because it was stopped before its first checkpoint."""
    return launcher != Launcher.RAY and last_checkpoint(store, run) is None


def why_not_resumed(store: Store, run: RunDetail, launcher: str = Launcher.LOCAL) -> str | None:
    """Return one sentence on why a run cannot be resumed, or None if it can.

    A run that was stopped before its first checkpoint starts over in its folder, which must be its own.
    """
    if run.method == "none":
        return f"{run.name} has no training to resume. Evaluate it instead."
    if "recorded" in run.config:
        return f"{run.name} was recorded from a script. Start that script again."
    if _is_complete(store, run):
        return (
            f"{run.name} is finished, up to step {run.max_steps}. To train it further, launch a new run from its "
            f"adapter, with model.adapter={run.uid}, or branch it on its page."
        )
    if launcher == Launcher.RAY or last_checkpoint(store, run) is not None:
        return None
    rows = [row for row in list_checkpoints(store, run.id) if row.kind == "last"]
    if rows:
        return f"The checkpoint folder {rows[0].path} does not exist. Launch a new run."
    if run.output_dir and ownership.owns(store, run.uid, Path(run.output_dir)):
        return None
    return f"{run.name} has no checkpoint on this machine. Clone it to launch it again."


def _is_complete(store: Store, run: RunDetail) -> bool:
    """Return whether a run has finished its last update and its test, so that resuming it would only test it again."""
    if run.job is None or (run.job.kind, run.job.state) != ("train", JobState.FINISHED):
        return False
    if run.max_steps is None or run.step < run.max_steps:
        return False
    is_tested = any(each.kind == "test" and each.ended_at for each in list_evaluations(store, run.id))
    return is_tested or run.config.get("data", {}).get("test_examples") == 0


def why_not_evaluated(store: Store, run: RunDetail) -> str | None:
    """Return one sentence on why this machine has no checkpoint of a run to evaluate or export; None if it has one.

    A run in its own folder is left to the job, which knows the checkpoint that is asked for.
    """
    if run.method == "none" or (run.output_dir and ownership.owns(store, run.uid, Path(run.output_dir))):
        return None
    folder = ownership.folder_of(store, run.uid)
    if any(_checkpoint_path(row, run, folder) is not None for row in list_checkpoints(store, run.id)):
        return None
    if "recorded" in run.config:
        return f"{run.name} was recorded from a script. Its checkpoints are where that script saved them."
    return f"{run.name} has no checkpoint on this machine. Do this where it was trained, or launch it again."
