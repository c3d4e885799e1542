"""Delete a run permanently: its rows, and its output folder if that is marked as its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from store.db import ownership
from store.db.connection import Store, StoreError
from store.runs import delete_run


def delete(store: Store, run_id: int, uid: str) -> Path | None:
    """Delete a run with all of its data, and return its output folder. Raises StoreError if it has an open job.

    Images stay, because other runs may show them; `store.care.orphans` removes those that no run needs.
    """
    folder = folder_of(store, uid)
    delete_run(store, run_id)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return folder


def folder_of(store: Store, uid: str) -> Path | None:
    """Return the run's output folder next to the database, or None if no such folder belongs to it."""
    try:
        folder = ownership.folder_of(store, uid)
    except StoreError:
        return None  # the uid is not a valid folder name
    return folder if ownership.owns(store, uid, folder) else None
