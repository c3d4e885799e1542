"""Recognise runs that were imported before, even if the files from which their identity comes no longer exist."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from store.db.connection import Store, reading
from store.db.schema import Run
from store.importing.found import FoundRun
from store.importing.steps import DATASET, agrees


def place_of(path: str, run: FoundRun) -> dict[str, Any]:
    """Return the location of a run: the named folder, and the run's names in it."""
    return {"root": str(Path(path).expanduser().absolute()), "names": [run.name, *run.longer_names]}


def recognise(store: Store, tool: str, path: str, runs: Sequence[FoundRun], uids: Sequence[str]) -> None:
    """Give runs whose first files were removed the uid that they had with them.

    It is that of a run from the same place which holds the same at some step, and nothing else at any other one: a
    training that began anew in a folder is a run of its own.
    """
    with reading(store) as connection:
        rows = connection.execute(select(Run.id, Run.uid, Run.config).where(Run.dataset == DATASET)).all()
    told = {row.uid: row.config.get("imported") or {} for row in rows}
    for run, uid in zip(runs, uids, strict=True):
        if uid in told:
            continue
        place = {"from": tool, **place_of(path, run)}
        alike = (row for row in rows if place.items() <= told[row.uid].items() and row.uid not in uids)
        run.uid = next((row.uid for row in alike if agrees(store, row.id, run)), None)
