"""Copy a whole database to another, for example from SQLite to PostgreSQL, and verify the copy.

Every table, row and image file is copied, without the registered workers, which serve the original. Files in the output
folders of runs are not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, func, insert, select, text

from store.db.connection import Store, StoreError, reading, writing
from store.db.schema import Base, Database, Run, Worker
from store.media import files

ROWS_AT_ONCE = 2000


class CopiedTable(NamedTuple):
    """A table and its number of rows."""

    table: str
    rows: int


def copy(
    source: Store, target: Store, on_table: Callable[[CopiedTable], None] = lambda copied: None
) -> list[CopiedTable]:
    """Copy every row and image, in one transaction on each side, so that runs can continue to write to `source`.

    `on_table` is called with each copied table. Raises StoreError, with nothing stored, unless `target` is empty and
    ends up with the same rows and images.
    """
    done = []
    with reading(source) as origin, writing(target) as place:
        if place.scalar(select(func.count()).select_from(Run)):
            raise StoreError(f"{target.where} already has runs. Name an empty database to copy to.")
        for table in Base.metadata.sorted_tables:
            if table in (Database.__table__, Worker.__table__):
                continue  # the copy has its own identity, and workers of its own
            for rows in _chunks(origin, table):
                place.execute(insert(table), rows)
            if _digest(origin, table) != _digest(place, table):
                raise StoreError(f"The copy of table {table.name} differs from the original, so nothing was stored.")
            done.append(CopiedTable(table.name, place.scalar(select(func.count()).select_from(table)) or 0))
            on_table(done[-1])
        _go_on_counting(place)
        done.append(CopiedTable("image files", _copy_images(origin, source, target)))
        on_table(done[-1])
    if target.engine.dialect.name == "postgresql":
        with target.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as place:
            place.execute(text("VACUUM (ANALYZE)"))  # without statistics, queries read more than needed
    return done


def _chunks(connection: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    statement = select(table).order_by(*table.primary_key).execution_options(yield_per=ROWS_AT_ONCE)
    for rows in connection.execute(statement).mappings().partitions():
        yield [dict(row) for row in rows]


def _digest(connection: Connection, table: Table) -> tuple[int, int]:
    """Return the number of rows and the sum of their hashes, which does not depend on the order of rows."""
    total = count = 0
    for rows in _chunks(connection, table):
        count += len(rows)
        for row in rows:
            total += int.from_bytes(hashlib.sha256(json.dumps(row, default=repr, sort_keys=True).encode()).digest())
    return count, total % 2**256


def _go_on_counting(connection: Connection) -> None:
    """Advance PostgreSQL's id counters beyond the copied rows, which were inserted with their ids."""
    if connection.dialect.name != "postgresql":
        return
    for table in Base.metadata.sorted_tables:
        counter = connection.scalar(
            text("SELECT pg_get_serial_sequence(:table, column_name) FROM information_schema.columns "
                 "WHERE table_schema = current_schema() AND table_name = :table AND column_default LIKE 'nextval%'"),
            {"table": table.name},
        )  # fmt: skip
        if counter:
            highest = connection.scalar(select(func.max(table.c.id)))
            connection.execute(select(func.setval(counter, highest or 1, highest is not None)))


def _copy_images(origin: Connection, source: Store, target: Store) -> int:
    hashes = origin.scalars(select(Base.metadata.tables["media"].c.sha256)).all()
    copied, missing = files.copy(source.media, target.media, hashes)
    if missing:
        raise StoreError(
            f"{missing:,} images in {source.media} are missing or damaged, so nothing was stored. Restore them first."
        )
    return copied
