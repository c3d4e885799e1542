"""Import Trackio projects: each is an SQLite file with one JSON row per call of `log`.

Before 0.1, one file had all projects and no steps; before 0.2, there was no table of configurations.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from store.db.connection import StoreError
from store.importing.files import as_json, below, read_each
from store.importing.found import Found, FoundRun, pluralize

OTHERS = {
    "traces": "trace",
    "system_metrics": "measurement of the machine",
    "alerts": "alert",
}
"""Tables that are not imported, and what a row of each is."""


def runs(path: str) -> Found:
    """Return every run in a project's file, or in all projects of a folder."""
    projects, unread = read_each(below(path, "*.db"), _project)
    return Found([run for project in projects for run in project], unread)


def _project(path: Path) -> list[FoundRun]:
    if path.stat().st_size == 0:
        raise StoreError(f"{path} is empty.")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            # A file from elsewhere must not be able to make SQLite run functions.
            connection.execute("PRAGMA trusted_schema = OFF")
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "metrics" not in tables:
                raise StoreError(f"{path} is not a Trackio project: it has no table of metrics.")
            runs_by_key = _runs_by_key(connection, path.stem)
            _configure(connection, runs_by_key, tables)
            _count_others(connection, runs_by_key, tables)
    except sqlite3.Error as error:
        raise StoreError(f"{path} is not a Trackio project ({error}).") from None
    return list(runs_by_key.values())


Key = tuple[object, object]
"""The project, if the file has several, and the run's id (or name, where that is the id)."""


def _runs_by_key(connection: sqlite3.Connection, project: str) -> dict[Key, FoundRun]:
    columns = _columns(connection, "metrics")
    if missing := {"run_name", "metrics"} - columns:
        raise sqlite3.DatabaseError(f"its metrics have no {min(missing)}")
    project_column, id = _key_columns(columns)
    # Before Trackio stored steps, it counted a run's rows.
    step, at = (name if name in columns else "NULL" for name in ("step", "timestamp"))
    runs_by_key: dict[Key, FoundRun] = {}
    rows: dict[Key, int] = {}
    query = f"SELECT {project_column}, {id}, run_name, {step}, metrics, {at} FROM metrics ORDER BY rowid"
    for row_project, key, name, row_step, metrics, timestamp in connection.execute(query):
        run = runs_by_key.get((row_project, key))
        if run is None:
            of, named_run = row_project or project, str(name)
            longer = (f"{of}/{named_run}", f"{of}/{named_run} ({key})")
            run = runs_by_key[row_project, key] = FoundRun(f"{of}\n{key}\n{timestamp}", named_run, longer)
        rows[row_project, key] = place = rows.get((row_project, key), -1) + 1
        values = as_json(metrics)
        if isinstance(values, dict):
            run.add(place if step == "NULL" else row_step, values, _seconds(timestamp))
        else:
            run.left_out["Left out because they are not valid JSON"]["entries"] += 1
    return runs_by_key


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}


def _key_columns(columns: set[str]) -> tuple[str, str]:
    return "project_name" if "project_name" in columns else "NULL", "run_id" if "run_id" in columns else "run_name"


def _configure(connection: sqlite3.Connection, runs_by_key: dict[Key, FoundRun], tables: set[str]) -> None:
    if "configs" not in tables:
        return
    project_column, id = _key_columns(_columns(connection, "configs"))
    for row_project, key, config in connection.execute(f"SELECT {project_column}, {id}, config FROM configs"):
        values = as_json(config)
        if (row_project, key) in runs_by_key and isinstance(values, dict):
            runs_by_key[row_project, key].config = {
                name: value for name, value in values.items() if not name.startswith("_")
            }


def _count_others(connection: sqlite3.Connection, runs_by_key: dict[Key, FoundRun], tables: set[str]) -> None:
    """Add notes on data of a run that is not imported."""
    for table, noun in OTHERS.items():
        if table not in tables:
            continue
        project_column, id = _key_columns(_columns(connection, table))
        for row_project, key, n in connection.execute(
            f"SELECT {project_column}, {id}, count(*) FROM {table} GROUP BY 1, 2"
        ):
            if (row_project, key) in runs_by_key:
                runs_by_key[row_project, key].notes.append(f"Left out: {pluralize(n, noun)}.")


def _seconds(timestamp: object) -> float | None:
    """Return an ISO time in seconds since the epoch. SQLite's own format, without a zone or T, is UTC."""
    text = str(timestamp)
    try:
        at = datetime.fromisoformat(text)
        return (at.replace(tzinfo=UTC) if at.tzinfo is None and " " in text else at).timestamp()
    except (ValueError, OverflowError):
        return None
