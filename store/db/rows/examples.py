"""Rows of examples, their images, and the index of datasets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ExampleRow:
    """A question with its images as encoded bytes (PNG, JPEG, WebP or GIF)."""

    dataset: str
    split: str
    key: str
    question: str
    answer: int | None
    reference: str | None = None
    difficulty: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    gold: Any = None
    """The gold answer, of any type, if it is not a count as in `answer`."""
    prompt: Any = None
    """The whole prompt (text or messages), if it is more than the question."""
    columns: dict[str, Any] | None = None
    """Other columns of a script's dataset row."""
    images: tuple[bytes, ...] = ()


class StoredExample(NamedTuple):
    id: int
    dataset: str
    split: str
    key: str
    question: str
    answer: int | None
    reference: str | None
    difficulty: str | None
    meta: dict[str, Any]
    images: tuple[str, ...]
    """SHA-256 of each image, in order; see `store.media.rows.get_media`."""
    gold: Any = None
    prompt: Any = None
    columns: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.split}/{self.key}"


class MediaRow(NamedTuple):
    sha256: str
    mime: str
    width: int
    height: int
    size: int
    """Bytes."""


class IndexRow(NamedTuple):
    """A dataset split's index, and the process that builds it; see `store.db.schema.DatasetIndex`."""

    id: int
    name: str
    path: str
    split: str
    dataset: str | None
    revision: str | None
    limit: int
    state: str
    done: int
    error: str | None
    host: str | None
    boot_id: str | None
    pid: int | None
    pid_started: float | None
    started_at: float
    indexed_at: float | None
    rows: int | None
    usable: int | None
    images: int | None
    complete: bool | None
    skipped: dict[str, int]
    sizes: dict[str, dict[str, float]]


class ImageHashRow(NamedTuple):
    """Hashes by which an image is recognised in other datasets; `phash` has 64 bits, unsigned."""

    sha256: str
    phash: int
    origin: str | None
    """Id in a public collection, `coco:9` or `vg:107`, or None."""


class SplitRow(NamedTuple):
    """A dataset split with stored examples."""

    dataset: str
    split: str
    examples: int


class Bar(NamedTuple):
    """The number of a split's examples with this difficulty and true count."""

    split: str
    difficulty: str | None
    answer: int | None
    examples: int


class Pictures(NamedTuple):
    """The hashed images of a split, with one entry per pair of image and example, sorted by image."""

    example_id: NDArray[np.int64]
    sha256: NDArray[np.str_]
    phash: NDArray[np.uint64]
    origin: NDArray[np.str_]
    """Empty if unknown."""


class Verdicts(NamedTuple):
    """The greedy predictions of one finished test; both arrays are sorted by example."""

    evaluation_id: int
    run_id: int
    run_name: str
    run_uid: str
    step: int
    example_id: NDArray[np.int64]
    correct: NDArray[np.bool_]
