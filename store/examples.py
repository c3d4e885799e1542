"""Examples with their images: one question each, stored once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    select,
    tuple_,
)

from store.db.connection import Store, reading, writing
from store.db.rows import (
    ExampleRow,
    StoredExample,
)
from store.db.schema import Example, ExampleImage, Media
from store.db.sql import upsert
from store.db.trace_columns import PAGE
from store.db.values import clean, storable
from store.media import files as media

Identity = tuple[str, str, str]
KEYS_PER_QUERY = 500


def add_examples(store: Store, rows: Sequence[ExampleRow]) -> list[int]:
    """Add new examples with their images, and return the ids of all in order.

    Stored examples (same dataset, split and key) are not changed.
    """
    identities = [_identity(row) for row in rows]
    with reading(store) as connection:
        ids_by_identity = _example_ids(connection, identities)
    missing = {key: row for key, row in zip(identities, rows, strict=True) if key not in ids_by_identity}
    if missing:
        images = {key: [media.save(store.media, data) for data in row.images] for key, row in missing.items()}
        with writing(store) as connection:
            ids_by_identity |= _insert_examples(connection, missing, images)
    return [ids_by_identity[key] for key in identities]


def get_examples(store: Store, ids: Iterable[int]) -> dict[int, StoredExample]:
    """Return examples by id, with the hashes of their images in order; unknown ids are left out."""
    sorted_ids = sorted(set(ids))
    images: dict[int, list[str]] = defaultdict(list)
    rows: list[Row[Any]] = []
    with reading(store) as connection:
        for start in range(0, len(sorted_ids), PAGE):
            part = sorted_ids[start : start + PAGE]
            rows += connection.execute(select(Example.__table__).where(Example.id.in_(part)))
            links = select(ExampleImage.example_id, ExampleImage.sha256).where(ExampleImage.example_id.in_(part))
            for example_id, sha256 in connection.execute(links.order_by(ExampleImage.position)):
                images[example_id].append(sha256)
    return {row.id: StoredExample(**row._mapping, images=tuple(images[row.id])) for row in rows}


def _identity(row: ExampleRow) -> Identity:
    return clean(row.dataset), clean(row.split), clean(row.key)


def _example_ids(connection: Connection, identities: Sequence[Identity]) -> dict[Identity, int]:
    key = (Example.dataset, Example.split, Example.key)
    ids_by_identity: dict[Identity, int] = {}
    for start in range(0, len(identities), KEYS_PER_QUERY):
        part = identities[start : start + KEYS_PER_QUERY]
        for dataset, split, name, id in connection.execute(select(*key, Example.id).where(tuple_(*key).in_(part))):
            ids_by_identity[dataset, split, name] = id
    return ids_by_identity


def _insert_examples(
    connection: Connection, rows: Mapping[Identity, ExampleRow], images: Mapping[Identity, list[Any]]
) -> dict[Identity, int]:
    """Insert new examples, except those that another process adds at the same time."""
    files = [image._asdict() for each in images.values() for image in each]
    if files:
        connection.execute(upsert(connection.dialect.name, Media).on_conflict_do_nothing(), files)
    examples = [
        {
            **dict(zip(("dataset", "split", "key"), identity, strict=True)),
            "question": clean(row.question),
            "answer": row.answer,
            "reference": storable(row.reference),
            "difficulty": storable(row.difficulty),
            "meta": storable(row.meta),
            "gold": storable(row.gold),
            "prompt": storable(row.prompt),
            "columns": storable(row.columns),
        }
        for identity, row in rows.items()
    ]
    connection.execute(upsert(connection.dialect.name, Example).on_conflict_do_nothing(), examples)
    ids = _example_ids(connection, list(rows))
    links = [
        {"example_id": ids[identity], "position": position, "sha256": image.sha256}
        for identity, each in images.items()
        for position, image in enumerate(each)
    ]
    if links:
        connection.execute(upsert(connection.dialect.name, ExampleImage).on_conflict_do_nothing(), links)
    return ids
