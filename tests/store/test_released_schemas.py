"""A database of every schema that was ever released, with rows in every table, opens today and has lost nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import JSON, Boolean, Float, Integer, LargeBinary, MetaData, Table, insert, text

from store.completions.rows import iter_completions
from store.db import upgrade
from store.db.connection import sqlite_engine
from store.db.engine import open_store
from store.jobs import list_jobs
from store.runs import list_runs

RELEASED = sorted(path.name[:4] for path in (upgrade.MIGRATIONS / "versions").glob("[0-9]*.py"))
ROWS = 3
RENAMED = {("completion", "steps"): "reasoning_steps", ("prediction", "steps"): "reasoning_steps"}
HOSTILE = "é'; DROP TABLE run; -- \ufffd\n"


def value(table: Table, name: str, number: int) -> Any:
    """What the column holds in the row of that number: different texts, and the row of the same number of a parent."""
    column = table.c[name]
    if column.foreign_keys or (column.primary_key and isinstance(column.type, Integer)):
        parent = next(iter(column.foreign_keys)).column if column.foreign_keys else None
        return "abc"[number] * 64 if parent is not None and parent.name == "sha256" else number + 1
    if name == "sha256":
        return "abc"[number] * 64
    for kind, made in ((Boolean, True), (Float, 0.5 + number), (Integer, number), (JSON, {"n": number})):
        if isinstance(column.type, kind):
            return made
    return bytes([number]) * 16 if isinstance(column.type, LargeBinary) else f"{name} {number} {HOSTILE}"


def filled(path: Path, revision: str) -> dict[str, list[dict[str, Any]]]:
    """Makes a database of a schema with rows in every table; table to the rows as the driver reads them."""
    engine = sqlite_engine(path)
    with engine.begin() as connection:
        command.upgrade(upgrade.alembic_config(connection), revision)
    metadata = MetaData()
    metadata.reflect(engine)
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            if table.name != "alembic_version":
                names = [column.name for column in table.columns]
                rows = [{name: value(table, name, number) for name in names} for number in range(ROWS)]
                connection.execute(insert(table), rows)
    engine.dispose()
    return contents(path)


def contents(path: Path) -> dict[str, list[dict[str, Any]]]:
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        tables = [name for name in names if not name.startswith(("sqlite_", "alembic_"))]
        return {
            name: [dict(row) for row in database.execute(f'SELECT * FROM "{name}" ORDER BY 1, 2')] for name in tables
        }


@pytest.mark.parametrize("revision", RELEASED)
def test_every_row_of_a_released_schema_survives(revision: str, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    before = filled(path, revision)
    assert all(len(rows) == ROWS for rows in before.values()) and len(before) >= 15
    store = open_store(str(path))
    after = contents(path)
    before.pop("database", None)  # its identity: the file had none of ours
    for table, rows in before.items():
        for old, new in zip(rows, after[table], strict=True):
            assert {name: new[RENAMED.get((table, name), name)] for name in old} == old, table
    with store.engine.begin() as connection:
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
    assert len(list_runs(store)) == ROWS
    for run in list_runs(store):
        assert len(list(iter_completions(store, run.id))) == 1
        assert run.name.startswith("name ")
    assert len(list_jobs(store)) == ROWS
    store.close()


def test_the_histogram_of_reasoning_steps_is_renamed_and_the_reward_of_that_name_is_not(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    filled(path, "0010")
    old = {"n": 4, "steps": {"0": 1, "3": 3}, "covariance": {"steps": 0.5}}
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE step_summary SET figures = ?", (json.dumps(old),))
    open_store(str(path)).close()
    new = {"n": 4, "reasoning_steps": {"0": 1, "3": 3}, "covariance": {"steps": 0.5}}
    assert [json.loads(row["figures"]) for row in contents(path)["step_summary"]] == [new] * ROWS
