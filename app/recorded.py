"""The recorded experiment: real runs that come with the project, so that every page has something to show at once.

`recorded/` holds one file per run, as written by `python -m store export-run`, and `manifest.json`, which states when,
from which commit and with which commands they were made. `scripts/record_demo.py` writes both.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pydantic import BaseModel

from store.care import transfer
from store.db.connection import Store
from store.db.rows import RunDetail, RunRow
from store.experiments import delete_experiment, list_experiments
from store.runs import delete_run, list_run_heads

FOLDER = Path(__file__).resolve().parents[1] / "recorded"


class Stop(BaseModel):
    """One stop of the tour: the page, its URL parameters, and what to look for."""

    page: str
    query: dict[str, str]
    title: str
    sentence: str


class Manifest(BaseModel):
    """The recorded runs; `runs` maps their uids to files, and `hashes` maps files to their SHA-256."""

    recorded_on: str
    commit: str
    machine: str
    commands: tuple[str, ...]
    runs: dict[str, str]
    hashes: dict[str, str]
    stops: tuple[Stop, ...]


@cache
def manifest() -> Manifest:
    """Return the manifest in `recorded/`; an empty one if this copy of the project has no recorded runs."""
    try:
        text = (FOLDER / "manifest.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return Manifest(recorded_on="", commit="", machine="", commands=(), runs={}, hashes={}, stops=())
    return Manifest.model_validate_json(text)


def is_recorded(run: RunRow | RunDetail) -> bool:
    return run.uid in manifest().runs


def recorded_runs(runs: Iterable[RunRow]) -> list[RunRow]:
    """Return the runs that are recorded ones."""
    return [run for run in runs if is_recorded(run)]


def load(store: Store) -> int:
    """Import the recorded runs that the database does not have; return their number. Raises StoreError."""
    present = {run.uid for run in list_run_heads(store, newest=0, uids=list(manifest().runs))}
    missing = [file for uid, file in manifest().runs.items() if uid not in present]
    for file in missing:
        transfer.import_runs(store, FOLDER / file, sha256=manifest().hashes[file])
    return len(missing)


def remove(store: Store) -> int:
    """Delete the recorded runs and their experiment; return the number of runs. Raises StoreError."""
    runs = recorded_runs(list_run_heads(store, newest=0, uids=list(manifest().runs)))
    ids = {run.id for run in runs}
    for experiment in list_experiments(store):
        if experiment.arms and set(experiment.arms) <= ids:
            delete_experiment(store, experiment.id)
    for run in runs:
        delete_run(store, run.id)
    return len(runs)
