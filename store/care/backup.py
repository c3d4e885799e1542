"""Back up an SQLite database with its images, even while it is written to, and restore such a backup.

A backup is a folder that can be used directly: a database with its images next to it, where the dashboard looks for
them. It does not include logs and checkpoints.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from sqlalchemy import make_url

from store.care import state
from store.db import ownership, private
from store.db.connection import Store, StoreError, sqlite_path
from store.db.engine import media_place, open_store
from store.db.states import ACTIVE, JobState
from store.jobs import end_job, list_jobs, remove_worker
from store.media import files

NAME = "vision-r1-zero.db"
IMAGES = "vision-r1-zero-media"
CUT_OFF = "The database was restored from a backup made while this job was running. Resume the run."


class WrittenBackup(NamedTuple):
    """The database that was written, its number of images, and how many were already missing or damaged."""

    path: Path
    images: int
    lost: int


def backup(store: Store, folder: Path) -> WrittenBackup:
    """Copy the database and its images into a new or empty folder, and check the copy.

    Raises StoreError if it is not an SQLite database, or if the folder cannot be written.
    """
    source = _file_of(store, "use pg_dump, and copy the images")
    if folder.is_dir() and any(folder.iterdir()):
        raise StoreError(f"{folder} is not empty. Name a new folder.")
    unfinished = folder / f"{NAME}.unfinished"
    try:
        private.make_folder(folder)
        _copy_database(source, unfinished)
        # The copy lists every image it needs, and stored images never change, so they can be copied afterwards.
        copied, missing = files.copy(store.media, folder / IMAGES, _hashes(unfinished))
        ownership.forget(unfinished)
        os.replace(unfinished, folder / NAME)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}). Free some space, or name another folder."
        ) from None
    return WrittenBackup(folder / NAME, copied, missing)


def restore(folder: Path, url: str) -> WrittenBackup:
    """Create the database at `url` from a backup, and close the jobs that were running when it was made.

    Raises StoreError if a database exists there, or if the folder has no valid backup or one of a newer version.
    """
    target = sqlite_path(make_url(url))
    if target is None:
        raise StoreError("A backup can only be restored to an SQLite database. Name a file with --db.")
    for path in (target, Path(f"{target}-wal"), Path(f"{target}-shm")):
        if path.exists():
            raise StoreError(f"{path} already exists. Move it away, or name another database with --db.")
    if not (folder / NAME).is_file():
        raise StoreError(f"{folder} has no {NAME}. Name a folder that `python -m store backup` wrote.")
    try:
        private.make_folder(target.parent)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".restore-") as work:
            restored = Path(work, NAME)
            _copy_database(folder / NAME, restored)
            ownership.forget(restored)
            _settle(restored)
            copied, missing = files.copy(folder / IMAGES, media_place(target), _hashes(restored))
            os.replace(restored, target)
    except OSError as error:
        raise StoreError(
            f"{target.parent} cannot be written ({error.strerror}). Name another location with --db."
        ) from None
    return WrittenBackup(target, copied, missing)


def _file_of(store: Store, advice: str) -> Path:
    path = sqlite_path(make_url(store.url))
    if path is None:
        raise StoreError(f"{store.where} is not an SQLite file: {advice}.")
    return path


def _copy_database(source: Path, target: Path) -> None:
    """Copy a consistent snapshot, even during writes. Raises StoreError if the database or the copy is damaged."""
    try:
        private.make_file(target)
        with closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
        with closing(sqlite3.connect(target)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        raise StoreError(
            f"{source} cannot be copied to {target.parent} ({error}). Check that there is enough space."
        ) from None
    if verdict != "ok":
        raise StoreError(f"The copy of {source} is damaged ({verdict}). Use another disk or an older backup.")


def _hashes(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [sha256 for (sha256,) in connection.execute("SELECT sha256 FROM media ORDER BY sha256")]


def _settle(database: Path) -> None:
    """Upgrade a restored database, close its active jobs, which no process here runs, and remove its workers."""
    store = open_store(str(database))
    try:
        for job in list_jobs(store, open_only=True):
            if job.state in ACTIVE:
                end_job(store, job.id, JobState.LOST, error=CUT_OFF)
        for worker in state.workers(store):
            remove_worker(store, worker.host, worker.pid)
    finally:
        store.close()
