"""Recognise runs that were imported before, even if the files from which their identity comes no longer exist."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select

from store.db.connection import Store, reading
from store.db.schema import Run
from store.importing.found import FoundRun
from store.importing.steps import DATASET, agrees


def place_of(path: str, run: FoundRun) -> str:
    """Return where a run lies: its folder, or its name below what was named."""
    return str(run.folder or Path(path).expanduser().absolute() / run.name)


def recognise(store: Store, tool: str, path: str, runs: Sequence[FoundRun], uids: Sequence[str]) -> None:
    """Give runs whose first files were removed the uid that they had with them.

    It is that of a run from the same place which holds the same at some step, and nothing else at any other one: a
    training that began anew in a folder is a run of its own.
    """
    with reading(store) as connection:
        rows = connection.execute(select(Run.id, Run.uid, Run.config).where(Run.dataset == DATASET)).all()
    imported = {row.uid: row.config.get("imported") or {} for row in rows}
    for run, uid in zip(runs, uids, strict=True):
        if uid in imported:
            continue
        place = {"from": tool, "place": place_of(path, run)}
        candidates = (row for row in rows if place.items() <= imported[row.uid].items() and row.uid not in uids)
        run.uid = next((row.uid for row in candidates if agrees(store, row.id, run)), None)
