"""Find an invalid row after reading the database has failed. Read-only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, func, select

from store.care.transfer import run_tables
from store.db import checking
from store.db.connection import Store, reading
from store.db.schema import Example, ExampleImage, Media, MetricName, Run

SECONDS = 5.0
"""Time limit of the search, in seconds; small tables are searched first."""
_RUN: Any = Run.__table__
SHARED: tuple[Any, ...] = (Example.__table__, ExampleImage.__table__, Media.__table__, MetricName.__table__)
"""Tables that belong to no run."""


class Fault(NamedTuple):
    run: str | None
    """Uid of the row's run, if known."""
    words: str
    """`step of completion 12 is not a whole number: 'abc'`."""


def find(store: Store) -> Fault | None:
    """Return the first invalid row, or None if none is found in time."""
    deadline = time.monotonic() + SECONDS
    tables = [*run_tables(), *SHARED]
    with reading(store) as connection:
        sizes = {table: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}
        for table in sorted(tables, key=sizes.__getitem__):
            for mapping in connection.execute(select(table), execution_options={"yield_per": 500}).mappings():
                row = dict(mapping)
                for name, fault in checking.faults(table, row):
                    return Fault(_run_of(connection, table, row), f"{name} of {_called(table, row)} {fault}")
                if time.monotonic() > deadline:
                    return None
    return None


def _called(table: Table, row: Mapping[str, Any]) -> str:
    return f"{table.name} {row['id']}" if isinstance(row.get("id"), int) else table.name


def _run_of(connection: Connection, table: Table, row: Mapping[str, Any]) -> str | None:
    links = run_tables()
    while table is not _RUN:
        link = next((link for link in links.get(table, ()) if row[link.name] is not None), None)
        if link is None:
            return None
        table = next(iter(link.foreign_keys)).column.table
        parent = connection.execute(select(table).where(table.c.id == row[link.name])).mappings().first()
        if parent is None:
            return None
        row = dict(parent)
    return str(row["uid"])
