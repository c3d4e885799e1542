"""Writes of indexed datasets: what their splits hold, and what their images are recognised by.

An index goes from `starting` (asked for) over `running` (its process reads) to `finished` or `failed`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select, update

from store.connection import Store, StoreError, writing
from store.redaction import redacted
from store.rows import ImageHashRow
from store.schema import DatasetIndex, ImageHash
from store.sql import upsert
from store.values import clean, storable

OPEN = ("starting", "running")


def ask_index(store: Store, *, name: str, path: str, split: str, limit: int) -> int:
    """Says that a process is about to index this split, and returns the index's id.

    Raises StoreError while another one does.
    """
    return _open(store, name, path, split, {"limit": limit, "state": "starting"}, refused=OPEN)


def begin_index(
    store: Store,
    *,
    name: str,
    path: str,
    split: str,
    limit: int,
    host: str,
    boot_id: str | None,
    pid: int,
    pid_started: float | None,
) -> int:
    """Says that this process indexes a split, asked for or not, and returns the index's id.

    Figures of an earlier time stay until `finish_index`. Raises StoreError while another process indexes it.
    """
    process = {"host": host, "boot_id": boot_id, "pid": pid, "pid_started": pid_started}
    return _open(store, name, path, split, {"limit": limit, "state": "running", **process}, refused=("running",))


def _open(store: Store, name: str, path: str, split: str, values: dict[str, Any], *, refused: tuple[str, ...]) -> int:
    key = {"name": clean(name), "path": clean(path), "split": clean(split)}
    process = {"host": None, "boot_id": None, "pid": None, "pid_started": None}
    fresh = process | {"done": 0, "error": None, "started_at": time.time()} | values
    mine = [DatasetIndex.__table__.c[column] == value for column, value in key.items()]
    with writing(store) as connection:
        if connection.scalar(select(DatasetIndex.state).where(*mine)) in refused:
            raise StoreError(f"{name} ({split}) is being indexed already: wait until it is done.")
        row = upsert(connection.dialect.name, DatasetIndex).values(**key, skipped={}, sizes={}, **fresh)
        statement = row.on_conflict_do_update(index_elements=list(key), set_=fresh)
        return int(connection.execute(statement.returning(DatasetIndex.id)).scalar_one())


def advance_index(store: Store, index_id: int, done: int) -> None:
    """Says how many examples are stored."""
    _set(store, index_id, {"done": done})


def finish_index(
    store: Store,
    index_id: int,
    *,
    dataset: str,
    revision: str | None,
    rows: int,
    usable: int,
    images: int,
    complete: bool,
    skipped: dict[str, int],
    sizes: dict[str, dict[str, float]],
) -> None:
    """Closes an index with its figures; one of the same dataset and split from another folder gives way."""
    dataset = clean(dataset)
    found = {"rows": rows, "usable": usable, "images": images, "complete": complete}
    texts = {"dataset": dataset, "revision": storable(revision), "skipped": storable(skipped), "sizes": storable(sizes)}
    now = {"state": "finished", "done": usable, "indexed_at": time.time()}
    with writing(store) as connection:
        split = select(DatasetIndex.split).where(DatasetIndex.id == index_id).scalar_subquery()
        same = (DatasetIndex.dataset == dataset, DatasetIndex.split == split, DatasetIndex.id != index_id)
        connection.execute(delete(DatasetIndex).where(*same, DatasetIndex.state.not_in(OPEN)))
        connection.execute(update(DatasetIndex).where(DatasetIndex.id == index_id).values(found | texts | now))


def fail_index(store: Store, index_id: int, error: str) -> None:
    """Closes an index that did not come to its end; `error` is a sentence."""
    _set(store, index_id, {"state": "failed", "error": clean(redacted(error))})


def drop_index(store: Store, index_id: int) -> None:
    """Removes an index that is not at work; its examples stay, since runs may have answered them."""
    with writing(store) as connection:
        connection.execute(delete(DatasetIndex).where(DatasetIndex.id == index_id, DatasetIndex.state.not_in(OPEN)))


def _set(store: Store, index_id: int, values: dict[str, Any]) -> None:
    with writing(store) as connection:
        connection.execute(update(DatasetIndex).where(DatasetIndex.id == index_id).values(values))


def add_image_hashes(store: Store, rows: Sequence[ImageHashRow]) -> None:
    """Adds hashes of stored images; one that is known stays, but for an origin that it lacked."""
    if not rows:
        return
    values = [{"sha256": row.sha256, "phash": _signed(row.phash), "origin": row.origin} for row in rows]
    with writing(store) as connection:
        new = upsert(connection.dialect.name, ImageHash)
        lacks = new.on_conflict_do_update(
            index_elements=["sha256"], set_={"origin": new.excluded.origin}, where=ImageHash.origin.is_(None)
        )
        connection.execute(lacks, values)


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits
