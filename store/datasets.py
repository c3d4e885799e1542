"""Build and read the indexes of datasets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, delete, func, select, update

from store.db.connection import Store, StoreError, reading, writing
from store.db.redaction import redact
from store.db.rows import Bar, ImageHashRow, IndexRow, Pictures, SplitRow, StoredExample, Verdicts
from store.db.schema import DatasetIndex, Evaluation, Example, ExampleImage, ImageHash, Prediction, Run
from store.db.sql import upsert
from store.db.values import clean, storable
from store.examples import get_examples

OPEN = ("starting", "running")


class ExampleFilter(NamedTuple):
    """A filter of examples; None means any. `contains` is searched in question and key, ignoring case."""

    answer: int | None = None
    difficulty: str | None = None
    referenced: bool | None = None
    contains: str = ""


EVERY = ExampleFilter()


def ask_index(store: Store, *, name: str, path: str, split: str, limit: int) -> int:
    """Register that a process will index this split, and return the index's id.

    Raises StoreError if another process is indexing it.
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
    """Register that this process indexes a split, announced by `ask_index` or not, and return the index's id.

    Earlier statistics stay until `finish_index`. Raises StoreError if another process is indexing the split.
    """
    process = {"host": host, "boot_id": boot_id, "pid": pid, "pid_started": pid_started}
    return _open(store, name, path, split, {"limit": limit, "state": "running", **process}, refused=("running",))


def advance_index(store: Store, index_id: int, done: int) -> None:
    """Record how many examples have been stored."""
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
    """Close an index with its statistics; it replaces one of the same dataset and split from another folder."""
    dataset = clean(dataset)
    counts = {"rows": rows, "usable": usable, "images": images, "complete": complete}
    texts = {"dataset": dataset, "revision": storable(revision), "skipped": storable(skipped), "sizes": storable(sizes)}
    now = {"state": "finished", "done": usable, "indexed_at": time.time()}
    with writing(store) as connection:
        split = select(DatasetIndex.split).where(DatasetIndex.id == index_id).scalar_subquery()
        same = (DatasetIndex.dataset == dataset, DatasetIndex.split == split, DatasetIndex.id != index_id)
        connection.execute(delete(DatasetIndex).where(*same, DatasetIndex.state.not_in(OPEN)))
        connection.execute(update(DatasetIndex).where(DatasetIndex.id == index_id).values(counts | texts | now))


def fail_index(store: Store, index_id: int, error: str) -> None:
    """Close an index that failed, with the reason as a sentence."""
    _set(store, index_id, {"state": "failed", "error": clean(redact(error))})


def drop_index(store: Store, index_id: int) -> None:
    """Remove an index that is not being built; its examples stay, because runs may have answered them."""
    with writing(store) as connection:
        connection.execute(delete(DatasetIndex).where(DatasetIndex.id == index_id, DatasetIndex.state.not_in(OPEN)))


def add_image_hashes(store: Store, rows: Sequence[ImageHashRow]) -> None:
    """Add hashes of stored images. A known one is kept, but gets an origin if it had none."""
    if not rows:
        return
    values = [{"sha256": row.sha256, "phash": _signed(row.phash), "origin": row.origin} for row in rows]
    with writing(store) as connection:
        new = upsert(connection.dialect.name, ImageHash)
        lacks = new.on_conflict_do_update(
            index_elements=["sha256"], set_={"origin": new.excluded.origin}, where=ImageHash.origin.is_(None)
        )
        connection.execute(lacks, values)


def list_indexes(store: Store) -> list[IndexRow]:
    """Return all indexes, latest first."""
    columns = [DatasetIndex.__table__.c[name] for name in IndexRow._fields]
    statement = select(*columns).order_by(DatasetIndex.started_at.desc(), DatasetIndex.id.desc())
    with reading(store) as connection:
        return [IndexRow._make(row) for row in connection.execute(statement)]


def list_splits(store: Store) -> list[SplitRow]:
    """Return every split with stored examples, by name."""
    key = (Example.dataset, Example.split)
    with reading(store) as connection:
        rows = connection.execute(select(*key, func.count()).group_by(*key).order_by(*key))
        return [SplitRow._make(row) for row in rows]


def read_histogram(store: Store, dataset: str) -> list[Bar]:
    """Return the number of a dataset's examples by split, difficulty and true count."""
    key = (Example.split, Example.difficulty, Example.answer)
    statement = select(*key, func.count()).where(Example.dataset == dataset).group_by(*key).order_by(*key)
    with reading(store) as connection:
        return [Bar._make(row) for row in connection.execute(statement)]


def count_examples(store: Store, dataset: str, split: str, example_filter: ExampleFilter = EVERY) -> int:
    with reading(store) as connection:
        return connection.scalar(select(func.count()).where(*_matches(dataset, split, example_filter))) or 0


def list_examples(
    store: Store, dataset: str, split: str, example_filter: ExampleFilter = EVERY, *, limit: int, offset: int = 0
) -> list[StoredExample]:
    """Return examples of a split, sorted by key."""
    page = select(Example.id).where(*_matches(dataset, split, example_filter)).order_by(Example.key)
    with reading(store) as connection:
        ids = list(connection.scalars(page.limit(limit).offset(offset)))
    examples = get_examples(store, ids)
    return [examples[example_id] for example_id in ids if example_id in examples]


def list_pictures(store: Store, dataset: str, split: str) -> Pictures:
    """Return the hashed images of a split."""
    statement = (
        select(ExampleImage.example_id, ImageHash.sha256, ImageHash.phash, ImageHash.origin)
        .join(ImageHash, ImageHash.sha256 == ExampleImage.sha256)
        .join(Example, Example.id == ExampleImage.example_id)
        .where(Example.dataset == dataset, Example.split == split)
        .order_by(ImageHash.sha256, ExampleImage.example_id)
    )
    with reading(store) as connection:
        rows = connection.execute(statement).all()
    return Pictures(
        np.array([row.example_id for row in rows], dtype=np.int64),
        np.array([row.sha256 for row in rows], dtype=np.str_),
        np.array([row.phash for row in rows], dtype=np.int64).view(np.uint64),
        np.array([row.origin or "" for row in rows], dtype=np.str_),
    )


def list_verdicts(store: Store, dataset: str, split: str) -> list[Verdicts]:
    """Return the correctness of each greedy answer in every finished test on a split, latest test first."""
    statement = (
        select(
            *(Prediction.evaluation_id, Evaluation.run_id, Run.name, Run.uid, Evaluation.step),
            *(Prediction.example_id, Prediction.correct),
        )
        .join(Evaluation, Evaluation.id == Prediction.evaluation_id)
        .join(Run, Run.id == Evaluation.run_id)
        .join(Example, Example.id == Prediction.example_id)
        .where(Evaluation.kind == "test", Evaluation.ended_at.is_not(None), Prediction.sample == 0)
        .where(Example.dataset == dataset, Example.split == split)
        .order_by(Prediction.evaluation_id.desc(), Prediction.example_id)
    )
    with reading(store) as connection:
        rows = connection.execute(statement).all()
    return [_verdicts(list(each)) for _, each in groupby(rows, key=attrgetter("evaluation_id"))]


def _open(store: Store, name: str, path: str, split: str, values: dict[str, Any], *, refused: tuple[str, ...]) -> int:
    key = {"name": clean(name), "path": clean(path), "split": clean(split)}
    process = {"host": None, "boot_id": None, "pid": None, "pid_started": None}
    fresh = process | {"done": 0, "error": None, "started_at": time.time()} | values
    same_index = [DatasetIndex.__table__.c[column] == value for column, value in key.items()]
    with writing(store) as connection:
        if connection.scalar(select(DatasetIndex.state).where(*same_index)) in refused:
            raise StoreError(f"{name} ({split}) is already being indexed. Wait until that is done.")
        row = upsert(connection.dialect.name, DatasetIndex).values(**key, skipped={}, sizes={}, **fresh)
        statement = row.on_conflict_do_update(index_elements=list(key), set_=fresh)
        return int(connection.execute(statement.returning(DatasetIndex.id)).scalar_one())


def _set(store: Store, index_id: int, values: dict[str, Any]) -> None:
    with writing(store) as connection:
        connection.execute(update(DatasetIndex).where(DatasetIndex.id == index_id).values(values))


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


def _matches(dataset: str, split: str, example_filter: ExampleFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Example.dataset == dataset, Example.split == split]
    if example_filter.answer is not None:
        conditions.append(Example.answer == example_filter.answer)
    if example_filter.difficulty is not None:
        conditions.append(Example.difficulty == example_filter.difficulty)
    if example_filter.referenced is not None:
        conditions.append(Example.reference.is_not(None) if example_filter.referenced else Example.reference.is_(None))
    if example_filter.contains:
        text = clean(example_filter.contains)
        conditions.append(
            Example.question.icontains(text, autoescape=True) | Example.key.icontains(text, autoescape=True)
        )
    return conditions


def _verdicts(rows: list[Any]) -> Verdicts:
    first = rows[0]
    return Verdicts(
        *(first.evaluation_id, first.run_id, first.name, first.uid, first.step),
        np.array([row.example_id for row in rows], dtype=np.int64),
        np.array([row.correct is True for row in rows], dtype=np.bool_),
    )
