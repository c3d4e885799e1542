"""An open database: its engine, its transactions, and drivers' errors explained in sentences.

SQLite is used with a write-ahead log, so that one writer and any number of readers do not wait for each other.
PostgreSQL takes writers from many machines; there, too, a reader's transaction sees a consistent snapshot."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError

from store.db.redaction import redact

if TYPE_CHECKING:
    from store.db.bucket import Bucket

BUSY_SECONDS = 30
CONNECT_SECONDS = 10
RETRY_SECONDS = 1.0
LOG_BYTES_KEPT = 64 * 2**20
# A deferred transaction that reads first and then writes fails at once if another process has committed in between,
# whatever the busy timeout: a writer must lock the database at the start.
BEGIN_WRITING = "BEGIN IMMEDIATE"
C = TypeVar("C")
UNREACHABLE = "{where} does not answer. Start the server, or correct the URL."
ADVICE = {
    "database or disk is full": "The disk of {where} is full, so this write was not stored. Free some space.",
    "readonly database": "{where} cannot be written. Check its permissions and those of its folder.",
    "file is not a database": "{where} is not an SQLite database. Choose another file with --db.",
    "malformed": "{where} is damaged. Restore a copy, or choose another file with --db.",
    "unable to open": "{where} cannot be opened. Check that its folder exists and that you can write to it.",
    "database is locked": "{where} is locked by another program. End that program and try again.",
    "locking protocol": "{where} seems to be on a network file system. Move it to a local disk.",
    "disk I/O error": (
        "The disk of {where} reports an I/O error. Check the disk, and that the folder is not on a network."
    ),
    "foreign key constraint": "The run, job or example to which this belongs is no longer in {where}.",
    "read-only transaction": "{where} was opened read-only, so nothing was stored.",
    "fatal:  database": "The database {where} does not exist. Create it first (createdb), or correct the URL.",
    "password": "{where} rejected the user name or password. Correct the URL.",
    "permission denied": "The user lacks a permission on {where}. Grant it, or use another user in the URL.",
    "no space left": "The disk of {where} is full, so this write was not stored. Free some space.",
    "connection failed": UNREACHABLE,
    "connection refused": UNREACHABLE,
    "connection is lost": UNREACHABLE,
    "connection to server": UNREACHABLE,
    "server closed the connection": UNREACHABLE,
    "terminating connection": UNREACHABLE,
}


READING: dict[str, dict[str, Any]] = {
    "sqlite": {"vr1z_reading": True},
    # By default each statement of a transaction sees its own snapshot.
    "postgresql": {"isolation_level": "REPEATABLE READ"},
}


class StoreError(Exception):
    """The database cannot do what was asked. The message says what happened and what to do, without secrets."""

    def __init__(self, sentence: str) -> None:
        super().__init__(redact(sentence))


class Unreachable(StoreError):
    """The database server cannot be reached at the moment."""


class OpenedFile(NamedTuple):
    """A file's path and identity when it was opened."""

    path: Path
    device: int
    inode: int


class Refused(StoreError):
    """The database can never accept this: a row that it refers to does not exist, or a value does not fit."""


@dataclass(frozen=True)
class Store:
    """An open database and the location of its images, a folder or a URL."""

    url: str
    engine: Engine
    media: Path | Bucket
    patience: float = 0.0
    """Seconds for which a new transaction waits for a server that does not answer."""
    metric_ids: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    """Ids of committed metric names."""
    file: OpenedFile | None = field(default=None, compare=False)
    """The SQLite file that was opened."""

    @property
    def where(self) -> str:
        """The database as shown to users: a path or a URL without its password."""
        url = make_url(self.url)
        return str(sqlite_path(url) or redact(url.render_as_string(hide_password=False)))

    @property
    def folder(self) -> Path:
        """The folder of the database file; for a server, the folder with the images or their cached copies."""
        path = sqlite_path(make_url(self.url))
        images = self.media if isinstance(self.media, Path) else self.media.cache
        return path.parent if path else images.parent

    def check_file(self) -> None:
        """Raise StoreError if the file at the database's path is missing, or is not the one that is open.

        Data written to the open file would be lost when the last process closes it.
        """
        if self.file is not None and self.file != opened_file(self.file.path):
            raise StoreError(
                f"{self.where} was replaced or removed while it was open. Restart this program and all others that "
                "use it."
            )

    def close(self) -> None:
        self.engine.dispose()


def sqlite_path(url: URL) -> Path | None:
    """Return the path of a URL's SQLite file, or None if it is not SQLite."""
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database or url.database == ":memory:":
        raise StoreError("An in-memory database cannot be shared. Name a file with --db.")
    return Path(url.database)


def opened_file(path: Path) -> OpenedFile | None:
    """Return the file that is at a path now, or None."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return OpenedFile(path, state.st_dev, state.st_ino)


@contextmanager
def writing(store: Store) -> Iterator[Connection]:
    """Open a write transaction, which is committed at the end and rolled back on any exception."""
    store.check_file()
    try:
        with _connect_with_retries(store, store.engine.connect) as connection, connection.begin():
            yield connection
    except (DBAPIError, sqlite3.Error) as error:
        raise failure(store, error) from error


class DriverCursor:
    """The driver's own cursor. Its SQL uses `?` for parameters, whatever the driver's placeholder is."""

    def __init__(self, cursor: DBAPICursor, sign: str, *, is_alone: bool) -> None:
        self.cursor, self.sign = cursor, sign
        self.is_alone = is_alone
        """Whether no other transaction can write until this one ends, as with SQLite."""

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> DBAPICursor:
        self.cursor.execute(sql.replace("?", self.sign), values)
        return self.cursor

    def executemany(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            self.cursor.executemany(sql.replace("?", self.sign), rows)


def driver_cursor(connection: Connection) -> DriverCursor:
    """Return a driver's cursor in the transaction of `connection`."""
    return _driver_cursor(connection.connection.cursor(), connection.dialect)


def _driver_cursor(cursor: DBAPICursor, dialect: Dialect) -> DriverCursor:
    return DriverCursor(cursor, "?" if dialect.paramstyle == "qmark" else "%s", is_alone=dialect.name == "sqlite")


@contextmanager
def driver_writing(store: Store) -> Iterator[DriverCursor]:
    """Open a write transaction without SQLAlchemy, for the few statements that run at each step."""
    dialect = store.engine.dialect
    store.check_file()
    try:
        connection = _connect_with_retries(store, store.engine.raw_connection)
        try:
            cursor = _driver_cursor(connection.cursor(), dialect)
            if dialect.name == "sqlite":
                cursor.execute(BEGIN_WRITING)
            yield cursor
            connection.commit()
        finally:
            connection.close()  # rolls back what is not committed
    except (DBAPIError, dialect.loaded_dbapi.Error) as error:
        raise failure(store, error) from error


@contextmanager
def reading(store: Store) -> Iterator[Connection]:
    """Open a consistent snapshot. It never waits for a writer. Keep it short: it keeps the log from shrinking."""
    store.check_file()
    try:
        with _connect_with_retries(store, store.engine.connect).execution_options(
            **READING[store.engine.dialect.name]
        ) as connection:
            yield connection
    except (DBAPIError, sqlite3.Error) as error:
        raise failure(store, error) from error


def _connect_with_retries(store: Store, connect: Callable[[], C]) -> C:
    """Return a connection, retrying for the store's `patience`."""
    deadline = time.monotonic() + store.patience
    while True:
        try:
            return connect()
        except DBAPIError as error:
            if time.monotonic() >= deadline or not isinstance(failure(store, error), Unreachable):
                raise
        time.sleep(RETRY_SECONDS)


def failure(store: Store, error: Exception) -> StoreError:
    """Return the StoreError for a driver's error: Unreachable if a retry may help, Refused if it never can."""
    sentence = explain(error, store.where)
    if sentence == UNREACHABLE.format(where=store.where):
        return Unreachable(sentence)
    # Compare names, because each driver has its own classes for PEP 249's exceptions.
    kinds = {kind.__name__ for kind in type(getattr(error, "orig", error)).__mro__}
    return Refused(sentence) if kinds & {"IntegrityError", "DataError"} else StoreError(sentence)


def explain(error: Exception, where: str) -> str:
    """Return one sentence that explains a driver's error."""
    text = str(getattr(error, "orig", error))
    for sign, advice in ADVICE.items():
        if sign.lower() in text.lower():
            return advice.format(where=where)
    return f"{where} reports: {text.strip().splitlines()[0]}"


def require_log(connection: sqlite3.Connection, path: Path) -> None:
    """Turn on the write-ahead log, and check SQLite's answer, the only sign of a failure."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(
            f"{path} does not support a write-ahead log (it stays in {mode} mode). Move it to a local disk."
        )


def sqlite_engine(
    path: Path, *, readonly: bool = False, foreign_keys: bool = True, busy_seconds: float | None = None
) -> Engine:
    """Return an engine whose transactions lock for writing, unless it is read-only or used through `reading`."""
    patience = BUSY_SECONDS if busy_seconds is None else busy_seconds
    url = URL.create("sqlite", database=str(path))
    if readonly:
        url = URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    # isolation_level None: the begin event opens transactions, not the driver.
    settings = {"timeout": patience, "isolation_level": None}
    engine = create_engine(url, connect_args=settings, json_deserializer=lenient_json)

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, record: Any) -> None:
        if readonly:
            connection.execute("PRAGMA query_only = ON")
        else:
            require_log(connection, path)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA foreign_keys = {foreign_keys:d}")
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_KEPT}")
        # A database from elsewhere must not be able to run functions through its schema.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute(f"PRAGMA busy_timeout = {round(patience * 1000)}")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -20000")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        deferred = readonly or connection.get_execution_options().get("vr1z_reading")
        connection.exec_driver_sql("BEGIN" if deferred else BEGIN_WRITING)

    return engine


def lenient_json(text: str | bytes | float) -> Any:
    """Parse stored JSON leniently: invalid JSON becomes False, a non-finite number becomes None.

    SQLite returns a JSON number as a number, because JSON columns have numeric affinity.
    """
    if isinstance(text, int | float):
        return text if math.isfinite(text) else False
    try:
        value = json.loads(text, parse_constant=lambda word: None)
    except (ValueError, TypeError, RecursionError):
        value = None
    return False if value is None else value


def server_engine(url: URL, *, readonly: bool = False) -> Engine:
    """Return an engine for a database server; connections that broke while idle are replaced silently."""
    if url.get_backend_name() != "postgresql":
        raise StoreError(f"{url.get_backend_name()} is not supported. Use an SQLite file or a PostgreSQL URL.")
    settings: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "application_name": "vision-r1-zero"}
    if readonly:
        settings["options"] = "-c default_transaction_read_only=on"
    # In SQLAlchemy, plain `postgresql://` means another driver.
    driver_url = url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
    return create_engine(driver_url, pool_pre_ping=True, connect_args=settings)
