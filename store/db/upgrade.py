"""Create and upgrade a database's schema. This is the only module that uses Alembic.

Revisions are numbered (`0001`, `0002`, …), so that their order is known without loading Alembic.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from sqlalchemy import Connection, func, inspect, select, text

from store.db import ownership, private
from store.db.connection import Store, StoreError, reading, sqlite_engine, writing
from store.db.schema import Base

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0014"
MIGRATIONS = Path(__file__).with_name("migrations")
LOCK_SECONDS = 60
POSTGRESQL_LOCK = 0x56523152


def check(store: Store) -> None:
    """Raise StoreError unless the database has exactly this version's schema."""
    revision = _revision(store)
    if revision is None:
        raise StoreError(f"{store.where} is empty. Launch a run first, or name another database with --db.")
    if revision != HEAD:
        raise StoreError(f"{store.where} was written by an older version. Start the dashboard once to upgrade it.")


def prepare(store: Store, path: Path | None) -> None:
    """Create the tables of an empty database, or upgrade an older one; an SQLite file is backed up first.

    `path` is the SQLite file, if any. Processes that start at the same time wait for each other.
    """
    with _alone(store, path):
        revision = _revision(store)
        if revision is None:
            _create(store)
        elif revision != HEAD:
            if path is not None:
                copy_aside(path, revision)
            _migrate(store, path)
        ownership.settle(store)


def alembic_config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def copy_aside(path: Path, revision: str) -> Path:
    """Write a compact copy of an SQLite file next to it, named by schema and time, and return its path."""
    copy = path.with_name(f"{path.stem}-schema-{revision}-{time.strftime('%Y%m%d-%H%M%S')}{path.suffix}")
    connection = sqlite3.connect(path)
    try:
        private.make_file(copy)  # SQLite keeps the permissions of an existing empty file
        connection.execute("VACUUM INTO ?", (str(copy),))
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be copied before its upgrade ({error}). Free some space.") from error
    finally:
        connection.close()
    return copy


def _revision(store: Store) -> str | None:
    """Return the schema's number, or None without tables. Raises StoreError if the schema is newer or not ours."""
    with reading(store) as connection:
        tables = inspect(connection).get_table_names()
        if not tables:
            return None
        if "alembic_version" not in tables:
            raise StoreError(f"{store.where} has tables of another program. Name another database with --db.")
        revision = str(connection.scalar(text("SELECT version_num FROM alembic_version")))
    if revision > HEAD:
        raise StoreError(
            f"{store.where} was written by a newer version (schema {revision}, this one knows {HEAD}). "
            "Update this program, or name another database with --db."
        )
    return revision


def _create(store: Store) -> None:
    with writing(store) as connection:
        create(connection, HEAD)


def create(connection: Connection, revision: str) -> None:
    """Create the tables of a version in an empty database."""
    from alembic import command

    if revision == HEAD:
        Base.metadata.create_all(connection)
        command.stamp(alembic_config(connection), HEAD)
    else:
        command.upgrade(alembic_config(connection), revision)


def advance(connection: Connection) -> None:
    """Upgrade the tables of an older version. SQLite must not enforce foreign keys during this."""
    from alembic import command

    command.upgrade(alembic_config(connection), HEAD)


def _migrate(store: Store, path: Path | None) -> None:
    # SQLite alters a table by copying it and dropping the old one, which must not delete rows that refer to it.
    engine = store.engine if path is None else sqlite_engine(path, foreign_keys=False)
    try:
        with writing(replace(store, engine=engine)) as connection:
            advance(connection)
    finally:
        if engine is not store.engine:
            engine.dispose()


@contextmanager
def _alone(store: Store, path: Path | None) -> Iterator[None]:
    if path is None:
        with writing(store) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(POSTGRESQL_LOCK)))
            yield
        return
    lock = FileLock(f"{path}.lock", mode=private.FILE)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise StoreError(
            f"Another program has held {path}.lock for {LOCK_SECONDS} s. End that program and try again."
        ) from None
    except OSError as error:
        raise StoreError(
            f"{path.parent} cannot be written ({error.strerror}). Name another folder with --db."
        ) from None
    try:
        yield
    finally:
        lock.release()
