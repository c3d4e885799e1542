"""Store text embeddings, keyed by encoder and hash of the text.

A text has one vector per encoder. A changed encoder counts as a new one, so that vectors are never mixed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from store.db.connection import Store, reading, writing
from store.db.schema import Embedding, Encoder
from store.db.sql import upsert
from store.db.values import clean

STORED = np.dtype("<f2")
"""Half precision changes a cosine by less than 0.001."""
HASH_BYTES = 16
PAGE = 500

Vectors = NDArray[np.float32]


class EncoderRow(NamedTuple):
    """One version of an encoder, with the dimension of its vectors."""

    id: int
    name: str
    version: str
    dimension: int
    used_at: float


def text_hash(text: str) -> bytes:
    return hashlib.blake2b(clean(text).encode(), digest_size=HASH_BYTES).digest()


def use_encoder(store: Store, name: str, version: str, dimension: int) -> int:
    """Return the id of this version of an encoder, and mark it as the version in use under this name."""
    key = {"name": clean(name), "version": version}
    rest = {"dimension": dimension, "used_at": time.time()}
    with writing(store) as connection:
        row = upsert(connection.dialect.name, Encoder).values(**key, **rest)
        statement = row.on_conflict_do_update(index_elements=list(key), set_=rest)
        return int(connection.execute(statement.returning(Encoder.id)).scalar_one())


def add_embeddings(store: Store, encoder_id: int, vectors: Mapping[str, NDArray[Any]]) -> None:
    """Add the unit vectors of texts; existing ones are kept."""
    if not vectors:
        return
    rows = [
        {"encoder_id": encoder_id, "text_hash": text_hash(text), "vector": vector.astype(STORED).tobytes()}
        for text, vector in vectors.items()
    ]
    with writing(store) as connection:
        connection.execute(upsert(connection.dialect.name, Embedding).on_conflict_do_nothing(), rows)


def encoders(store: Store) -> list[EncoderRow]:
    """Return every version of every encoder, most recently used first."""
    columns = [Encoder.__table__.c[name] for name in EncoderRow._fields]
    with reading(store) as connection:
        rows = connection.execute(select(*columns).order_by(Encoder.used_at.desc(), Encoder.id.desc()))
        return [EncoderRow._make(row) for row in rows]


def count_embeddings(store: Store, encoder_id: int) -> int:
    with reading(store) as connection:
        statement = select(func.count()).select_from(Embedding).where(Embedding.encoder_id == encoder_id)
        return connection.scalar(statement) or 0


def missing(store: Store, encoder_id: int, texts: Iterable[str]) -> list[str]:
    """Return the distinct texts without a vector, in order."""
    hashes = {text_hash(text): text for text in texts}
    stored: set[bytes] = set()
    for part in _parts(list(hashes)):
        statement = select(Embedding.text_hash).where(Embedding.encoder_id == encoder_id, Embedding.text_hash.in_(part))
        with reading(store) as connection:
            stored.update(connection.scalars(statement))
    return [text for key, text in hashes.items() if key not in stored]


def vectors(store: Store, encoder_id: int, texts: Iterable[str]) -> dict[str, Vectors]:
    """Return unit vectors by text, each of shape (dimension,); texts without one are left out."""
    distinct = list(dict.fromkeys(texts))
    by_hash = _by_hash(store, encoder_id, {text_hash(text) for text in distinct})
    return {text: by_hash[key] for text in distinct if (key := text_hash(text)) in by_hash}


def matrix(store: Store, encoder: EncoderRow, texts: Sequence[str]) -> Vectors:
    """Return unit vectors in order, shape (len(texts), dimension), with rows of NaN for texts without one."""
    by_text = vectors(store, encoder.id, texts)
    none = np.full(encoder.dimension, np.nan, np.float32)
    rows = [by_text.get(text, none) for text in texts]
    return np.stack(rows) if rows else np.empty((0, encoder.dimension), np.float32)


def _by_hash(store: Store, encoder_id: int, hashes: set[bytes]) -> dict[bytes, Vectors]:
    by_hash: dict[bytes, Vectors] = {}
    for part in _parts(sorted(hashes)):
        statement = select(Embedding.text_hash, Embedding.vector)
        statement = statement.where(Embedding.encoder_id == encoder_id, Embedding.text_hash.in_(part))
        with reading(store) as connection:
            by_hash.update((row.text_hash, _unit(row.vector)) for row in connection.execute(statement))
    return by_hash


def _unit(stored: bytes) -> Vectors:
    """Normalize stored vectors, whose length is changed slightly by 16-bit rounding."""
    vector = np.frombuffer(stored, STORED).astype(np.float32)
    return vector / np.linalg.norm(vector)


def _parts(keys: list[bytes]) -> Iterable[list[bytes]]:
    return (keys[start : start + PAGE] for start in range(0, len(keys), PAGE))
