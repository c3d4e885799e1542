"""Trackio's projects: an SQLite file each, with one row of JSON for every call of `log`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from store.connection import StoreError
from store.importing.files import as_json, below
from store.importing.found import FoundRun

# Older projects know runs by name only.
COLUMNS = "SELECT {id}, run_name, step, metrics, timestamp FROM metrics ORDER BY id"
CONFIGS = "SELECT {id}, config FROM configs"


def runs(path: str) -> list[FoundRun]:
    """Every run of a project's file, or of all projects in a folder. Raises StoreError when there is none."""
    found = [run for file in below(path, "*.db") for run in _project(file)]
    if not found:
        raise StoreError(f"{path} holds no project of Trackio: name its folder or a project's .db file.")
    return found


def _project(path: Path) -> Iterator[FoundRun]:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            # A file from elsewhere must not make SQLite run functions of its choice.
            connection.execute("PRAGMA trusted_schema = OFF")
            yield from _runs(connection, path.stem)
    except sqlite3.Error as error:
        raise StoreError(f"{path} is not a project of Trackio ({error}): name another file.") from None


def _runs(connection: sqlite3.Connection, project: str) -> list[FoundRun]:
    columns = {row[1] for row in connection.execute("PRAGMA table_info(metrics)")}
    id = "run_id" if "run_id" in columns else "run_name"
    found: dict[str, FoundRun] = {}
    for key, name, step, metrics, timestamp in connection.execute(COLUMNS.format(id=id)):
        run = found.get(key)
        if run is None:
            run = found[key] = FoundRun(f"{project}\n{key}\n{timestamp}", str(name))
        values = as_json(metrics)
        if isinstance(values, dict):
            run.add(step, values, _seconds(timestamp))
    for key, config in connection.execute(CONFIGS.format(id=id)):
        values = as_json(config)
        if key in found and isinstance(values, dict):
            found[key].config = {name: value for name, value in values.items() if not name.startswith("_")}
    return list(found.values())


def _seconds(timestamp: object) -> float | None:
    """ISO time in seconds since the epoch."""
    try:
        return datetime.fromisoformat(str(timestamp)).timestamp()
    except (ValueError, OverflowError):
        return None
