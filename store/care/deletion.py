"""Removes a run for good: its rows, and the output folder that says that it is this run's."""

from __future__ import annotations

import shutil
from pathlib import Path

from store import ownership
from store.db.connection import Store, StoreError
from store.runs import delete_run


def delete(store: Store, run_id: int, uid: str) -> Path | None:
    """Removes a run with all that it recorded; the folder that went with it. Raises StoreError while a job is open.

    Images stay, since other runs may show them: `store.care.orphans` removes those that no run needs.
    """
    folder = folder_of(store, uid)
    delete_run(store, run_id)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return folder


def folder_of(store: Store, uid: str) -> Path | None:
    """The run's output folder beside the database; None where there is none that is its own."""
    try:
        folder = ownership.folder_of(store, uid)
    except StoreError:
        return None  # an uid that names no folder has none
    return folder if ownership.owns(store, uid, folder) else None
