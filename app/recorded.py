"""The recorded experiment: real runs that come with the project, so that every page has something to show at once.

`recorded/` holds a file a run, as `python -m store export-run` writes it, and `manifest.json`, which says when, by
which commit and with which commands they were made. `scripts/record_demo.py` writes both.
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
    """One stop of the tour: the page, its address, and what to see there."""

    page: str
    query: dict[str, str]
    title: str
    sentence: str


class Manifest(BaseModel):
    """What the recorded runs are; `runs` maps their uids to their files, and `hashes` those to their SHA-256."""

    recorded_on: str
    commit: str
    machine: str
    commands: tuple[str, ...]
    runs: dict[str, str]
    hashes: dict[str, str]
    stops: tuple[Stop, ...]


@cache
def manifest() -> Manifest:
    """Return what `recorded/` holds; nothing where a copy of the project goes without it."""
    try:
        text = (FOLDER / "manifest.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return Manifest(recorded_on="", commit="", machine="", commands=(), runs={}, hashes={}, stops=())
    return Manifest.model_validate_json(text)


def is_recorded(run: RunRow | RunDetail) -> bool:
    return run.uid in manifest().runs


def here(runs: Iterable[RunRow]) -> list[RunRow]:
    """Return those of the runs that are recorded ones."""
    return [run for run in runs if is_recorded(run)]


def load(store: Store) -> int:
    """Take in the recorded runs that are not there; return their number. Raises StoreError."""
    there = {run.uid for run in list_run_heads(store, newest=0, uids=list(manifest().runs))}
    missing = [file for uid, file in manifest().runs.items() if uid not in there]
    for file in missing:
        transfer.import_runs(store, FOLDER / file, sha256=manifest().hashes[file])
    return len(missing)


def remove(store: Store) -> int:
    """Delete the recorded runs and their experiment; return the number of runs. Raises StoreError."""
    found = here(list_run_heads(store, newest=0, uids=list(manifest().runs)))
    ids = {run.id for run in found}
    for experiment in list_experiments(store):
        if experiment.arms and set(experiment.arms) <= ids:
            delete_experiment(store, experiment.id)
    for run in found:
        delete_run(store, run.id)
    return len(found)
