"""Record to which run an output folder belongs, in a small file that names a database and one of its runs.

Without a match, nothing in a folder is written or removed. A database stores its own identity and location. A copy of
any kind (a restore, `store copy`, `cp`, a dump) gets a new identity, and the output folders of the original's runs do
not belong to it. A moved database keeps its identity. It counts as moved if nothing is left at its old location, which
can be checked for a file but not for a server: a database that a PostgreSQL server restored from a dump is a copy.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from sqlalchemy import Connection, delete, insert, make_url, select, text

from store.db import private
from store.db.connection import Store, StoreError, reading, sqlite_path, writing
from store.db.schema import Database, Run

NAME = "owner.json"
RUN_FOLDERS = "runs"
"""Folder next to a database with its runs' output folders."""
_MOST_BYTES = 10_000


class Owner(NamedTuple):
    """Identity of a database and uid of a run in it."""

    database: str
    run: str


def identity(store: Store) -> str:
    with reading(store) as connection:
        return connection.execute(select(Database.uid)).scalar_one()


def owner(folder: Path) -> Owner | None:
    """Return the owner recorded in a folder, or None."""
    try:
        with (folder / NAME).open("rb") as file:
            content = json.loads(file.read(_MOST_BYTES))
        return Owner(str(content["database"]), str(content["run"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def owns(store: Store, run_uid: str, folder: Path) -> bool:
    """Return whether a folder belongs to this run of this database."""
    return owner(folder) == Owner(identity(store), run_uid)


def claim(store: Store, run_uid: str, folder: Path) -> bool:
    """Claim a new or empty folder for the run; return False if it has another owner. Raises OSError."""
    private.make_folder(folder)
    new_owner = Owner(identity(store), run_uid)
    if any(folder.iterdir()):
        return owner(folder) == new_owner
    with suppress(FileExistsError):
        _sign(folder, new_owner, store.where)
    return owner(folder) == new_owner


def reclaim(store: Store, run_uid: str, folder: Path) -> bool:
    """Like `claim`, for a running job whose folder may have been deleted and created again in the meantime."""
    with suppress(FileExistsError):
        _sign(folder, Owner(identity(store), run_uid), store.where)
    return owns(store, run_uid, folder)


def folder_of(store: Store, run_uid: str) -> Path:
    """Return the folder for a run's output: next to the database, separate from those of other databases.

    Raises StoreError if the run's uid cannot name a folder.
    """
    if not _is_name(run_uid):
        raise StoreError(f"The run's uid {run_uid!r} is not a valid folder name. Delete the run.")
    expected_owner = Owner(identity(store), run_uid)
    folder = store.folder / RUN_FOLDERS / run_uid
    if owner(folder) == expected_owner or not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return folder
    return folder.with_name(f"{run_uid}-{expected_owner.database}")


def settle(store: Store) -> None:
    """Give an identity to a new database, and a new one to a copied database."""
    with reading(store) as connection:
        row = connection.execute(select(Database.uid, Database.place)).first()
        place = _place(store, connection)
    if row is None:
        _write(store, secrets.token_hex(8), place)
        _adopt(store)
    elif row.place != place:
        is_same = row.place is not None and _has_moved(row.place, place, row.uid)
        _write(store, row.uid if is_same else secrets.token_hex(8), place)


def _write(store: Store, uid: str, place: str) -> None:
    with writing(store) as connection:
        connection.execute(delete(Database))
        connection.execute(insert(Database).values(uid=uid, place=place))


def forget(database: Path) -> None:
    """Make a database file that is not in use get a new identity, different from its original's, when next opened."""
    with closing(sqlite3.connect(database)) as connection, suppress(sqlite3.OperationalError), connection:
        connection.execute("UPDATE database SET place = NULL")


def _place(store: Store, connection: Connection) -> str:
    """Return a database's location: its file, or its server and the database's number there."""
    path = sqlite_path(make_url(store.url))
    if path is not None:
        return str(path.resolve())
    server = connection.scalar(text("SELECT system_identifier FROM pg_control_system()"))
    number = connection.scalar(text("SELECT oid FROM pg_database WHERE datname = current_database()"))
    return f"postgresql:{server}/{number}"


def _has_moved(old: str, new: str, uid: str) -> bool:
    """Return whether a database with this identity was moved from its old location, rather than copied."""
    if old.startswith("postgresql:") or new.startswith("postgresql:"):
        return False
    with suppress(OSError):
        if os.path.samefile(old, new):
            return True
    try:
        with closing(sqlite3.connect(f"file:{quote(old)}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT uid FROM database").fetchone() != (uid,)
    except sqlite3.Error:
        return True


def _adopt(store: Store) -> None:
    """Write the owner into output folders of versions that did not record it."""
    with reading(store) as connection:
        run_rows = connection.execute(select(Run.uid, Run.output_dir).where(Run.output_dir.is_not(None))).all()
    for row in filter(lambda row: _is_name(row.uid), run_rows):
        folder = store.folder / RUN_FOLDERS / row.uid
        if row.output_dir == str(folder) and folder.is_dir():
            with suppress(OSError):
                _sign(folder, Owner(identity(store), row.uid), store.where)


def _is_name(uid: str) -> bool:
    return bool(uid) and Path(uid).name == uid and "\0" not in uid and not uid.startswith(".")


def _sign(folder: Path, new_owner: Owner, where: str) -> None:
    """Write the file that names the owner. Raises FileExistsError if the folder has one."""
    content = {
        **new_owner._asdict(),
        "where": where,
        "what": "Only this run of this database may write or remove files here.",
    }
    with open(folder / NAME, "x", encoding="utf-8", opener=private.opener) as file:
        json.dump(content, file, indent=1)
