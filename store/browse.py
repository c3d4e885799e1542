"""Datasets as they lie in the store: splits, histograms, examples page by page, hashes of images. Changes nothing."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, func, select

from store.connection import Store, reading
from store.rows import Bar, IndexRow, Pictures, SplitRow, StoredExample, Verdicts
from store.schema import DatasetIndex, Evaluation, Example, ExampleImage, ImageHash, Prediction, Run
from store.traces import examples
from store.values import clean


class ExampleFilter(NamedTuple):
    """What examples must have; None leaves it open. `contains` is searched in question and key, in any case."""

    answer: int | None = None
    difficulty: str | None = None
    referenced: bool | None = None
    contains: str = ""


EVERY = ExampleFilter()


def indexes(store: Store) -> list[IndexRow]:
    """Every index, the latest first."""
    columns = [DatasetIndex.__table__.c[name] for name in IndexRow._fields]
    statement = select(*columns).order_by(DatasetIndex.started_at.desc(), DatasetIndex.id.desc())
    with reading(store) as connection:
        return [IndexRow._make(row) for row in connection.execute(statement)]


def splits(store: Store) -> list[SplitRow]:
    """Every split of every dataset of which examples are stored, by name."""
    key = (Example.dataset, Example.split)
    with reading(store) as connection:
        rows = connection.execute(select(*key, func.count()).group_by(*key).order_by(*key))
        return [SplitRow._make(row) for row in rows]


def histogram(store: Store, dataset: str) -> list[Bar]:
    """Examples of a dataset by split, difficulty and true count."""
    key = (Example.split, Example.difficulty, Example.answer)
    statement = select(*key, func.count()).where(Example.dataset == dataset).group_by(*key).order_by(*key)
    with reading(store) as connection:
        return [Bar._make(row) for row in connection.execute(statement)]


def count_examples(store: Store, dataset: str, split: str, wanted: ExampleFilter = EVERY) -> int:
    with reading(store) as connection:
        return connection.scalar(select(func.count()).where(*_matches(dataset, split, wanted))) or 0


def browse(
    store: Store, dataset: str, split: str, wanted: ExampleFilter = EVERY, *, limit: int, offset: int = 0
) -> list[StoredExample]:
    """Examples of a split by key."""
    page = select(Example.id).where(*_matches(dataset, split, wanted)).order_by(Example.key)
    with reading(store) as connection:
        ids = list(connection.scalars(page.limit(limit).offset(offset)))
    found = examples(store, ids)
    return [found[example_id] for example_id in ids if example_id in found]


def _matches(dataset: str, split: str, wanted: ExampleFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Example.dataset == dataset, Example.split == split]
    if wanted.answer is not None:
        conditions.append(Example.answer == wanted.answer)
    if wanted.difficulty is not None:
        conditions.append(Example.difficulty == wanted.difficulty)
    if wanted.referenced is not None:
        conditions.append(Example.reference.is_not(None) if wanted.referenced else Example.reference.is_(None))
    if wanted.contains:
        text = clean(wanted.contains)
        conditions.append(
            Example.question.icontains(text, autoescape=True) | Example.key.icontains(text, autoescape=True)
        )
    return conditions


def pictures(store: Store, dataset: str, split: str) -> Pictures:
    """The hashed images of a split."""
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


def verdicts(store: Store, dataset: str, split: str) -> list[Verdicts]:
    """Right or wrong in every finished test on a split, the latest first; greedy answers only."""
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


def _verdicts(rows: list[Any]) -> Verdicts:
    first = rows[0]
    return Verdicts(
        *(first.evaluation_id, first.run_id, first.name, first.uid, first.step),
        np.array([row.example_id for row in rows], dtype=np.int64),
        np.array([row.correct is True for row in rows], dtype=np.bool_),
    )
