"""A new database, an older one, a newer one, and two processes that come at once."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy import inspect, make_url, text

from store.db import upgrade
from store.db.connection import StoreError, reading, server_engine, sqlite_engine, sqlite_path, writing
from store.db.engine import Store, database_url, open_store
from store.db.schema import Base
from store.runs import add_tag, describe_run, list_runs
from tests.store import make
from tests.store.make import sqlite_only

NEXT = f"{int(upgrade.HEAD) + 1:04}"
SECOND = f'''
"""Adds a column and renames another."""

import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{upgrade.HEAD}"


def upgrade() -> None:
    with op.batch_alter_table("run") as table:
        table.add_column(sa.Column("colour", sa.String(20), nullable=False, server_default="red"))
        table.alter_column("note", new_column_name="remark")
'''


@pytest.fixture
def second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This program, one revision later; returns the file of that revision."""
    folder = tmp_path / "migrations"
    shutil.copytree(upgrade.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "versions" / f"{NEXT}_second.py"
    path.write_text(SECOND)
    monkeypatch.setattr(upgrade, "MIGRATIONS", folder)
    monkeypatch.setattr(upgrade, "HEAD", NEXT)
    return path


def query(store: Store, sql: str) -> list[object]:
    with reading(store) as connection:
        return list(connection.scalars(text(sql)))


def test_a_new_database_has_the_newest_schema(store: Store) -> None:
    with reading(store) as connection:
        assert ScriptDirectory.from_config(upgrade.alembic_config(connection)).get_heads() == [upgrade.HEAD]
    assert query(store, "SELECT version_num FROM alembic_version") == [upgrade.HEAD]


def test_revisions_lead_to_the_same_schema_as_the_tables(url: str) -> None:
    path = sqlite_path(make_url(database_url(url)))
    engine = sqlite_engine(path) if path else server_engine(make_url(url))
    with engine.begin() as connection:
        command.upgrade(upgrade.alembic_config(connection), "head")
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


@sqlite_only
def test_revisions_keep_the_rows_of_a_file_together_as_the_tables_do(tmp_path: Path, store: Store) -> None:
    engine = sqlite_engine(tmp_path / "stepwise.db")
    with engine.begin() as connection:
        command.upgrade(upgrade.alembic_config(connection), "head")
        stepwise = set(connection.scalars(text("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")))
        clustered = connection.scalar(text("SELECT sql FROM sqlite_schema WHERE name = 'metric'"))
    engine.dispose()
    assert stepwise == set(query(store, "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"))
    assert "WITHOUT ROWID" in (clustered or "")


def test_opening_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    make.run(store)
    again = open_store(store.url)
    assert [row.name for row in list_runs(again)] == ["demo"]
    again.close()
    assert not list(tmp_path.glob("*schema*"))


def test_an_older_database_is_upgraded(store: Store, second: Path) -> None:
    run = make.run(store)
    add_tag(store, run.id, "kept")
    describe_run(store, run.id, note="mine")
    store.close()
    upgraded = open_store(store.url)
    assert query(upgraded, "SELECT version_num FROM alembic_version") == [NEXT]
    assert query(upgraded, "SELECT remark || colour FROM run") == ["minered"]
    assert query(upgraded, "SELECT name FROM tag") == ["kept"]
    upgraded.close()


@sqlite_only
def test_an_older_file_is_copied_before_its_upgrade(store: Store, second: Path, tmp_path: Path) -> None:
    (before,) = query(store, "SELECT version_num FROM alembic_version")
    run = make.run(store)
    describe_run(store, run.id, note="mine")
    store.close()
    open_store(store.url).close()
    (copy,) = tmp_path.glob(f"test-schema-{before}-*.db")
    with sqlite3.connect(copy) as old:
        assert old.execute("SELECT note FROM run").fetchall() == [("mine",)]
    old.close()


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(store: Store, second: Path) -> None:
    before = query(store, "SELECT version_num FROM alembic_version")
    make.run(store)
    store.close()
    second.write_text(SECOND + '        op.execute("SELECT * FROM nowhere")\n')
    with pytest.raises(StoreError, match=r"no such table: nowhere|relation \"nowhere\" does not exist"):
        open_store(store.url)
    assert query(store, "SELECT version_num FROM alembic_version") == before
    assert query(store, "SELECT name FROM run WHERE note IS NULL") == ["demo"]
    with reading(store) as connection:
        assert not [name for name in inspect(connection).get_table_names() if "alembic_tmp" in name]


def test_a_reader_does_not_upgrade(store: Store, second: Path) -> None:
    with pytest.raises(StoreError, match="older version"):
        open_store(store.url, readonly=True)


@pytest.mark.parametrize("readonly", [False, True])
def test_a_newer_database_is_refused(store: Store, readonly: bool) -> None:
    with writing(store) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    with pytest.raises(StoreError, match="Update this program"):
        open_store(store.url, readonly=readonly)


def test_a_lock_that_never_opens_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "LOCK_SECONDS", 0)
    with FileLock(tmp_path / "x.db.lock"), pytest.raises(StoreError, match=r"has held .*x\.db\.lock"):
        open_store(str(tmp_path / "x.db"))


def test_processes_that_start_at_once_take_turns(url: str) -> None:
    code = f"from store.db.engine import open_store; open_store({url!r}).close(); print('ok')"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)
    ]
    assert [process.communicate() for process in processes] == [(b"ok\n", b"")] * 3
