"""Examples, their images, and the index of datasets."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.db.domains import Moment, Natural
from store.db.schema.base import Base


class Media(Base):
    """An image file, stored once under the SHA-256 of its bytes."""

    __tablename__ = "media"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    mime: Mapped[str] = mapped_column(String(50))
    width: Mapped[Natural]
    height: Mapped[Natural]
    size: Mapped[Natural]


class Example(Base):
    """A question about images with its true count; `dataset/split/key` is its identity everywhere."""

    __tablename__ = "example"
    id: Mapped[int] = mapped_column(primary_key=True)
    dataset: Mapped[str] = mapped_column(String(200))
    split: Mapped[str] = mapped_column(String(50))
    key: Mapped[str] = mapped_column(String(200))
    question: Mapped[str] = mapped_column(Text)
    answer: Mapped[int | None]
    gold: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    """The gold answer of a script's dataset, of any type; `answer` is NULL unless it is a count."""
    prompt: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    """The full prompt (text or messages); NULL if it is the question in the run's own prompt."""
    columns: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    reference: Mapped[str | None] = mapped_column(Text)
    difficulty: Mapped[str | None] = mapped_column(String(50))
    meta: Mapped[dict[str, Any]]
    __table_args__ = (
        UniqueConstraint("dataset", "split", "key"),
        # Histograms and filters of large datasets read only this index.
        Index("ix_example_facets", "dataset", "split", "difficulty", "answer"),
    )


class ExampleImage(Base):
    __tablename__ = "example_image"
    example_id: Mapped[int] = mapped_column(ForeignKey("example.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[Natural] = mapped_column(primary_key=True, autoincrement=False)
    sha256: Mapped[str] = mapped_column(ForeignKey("media.sha256"), index=True)


class ImageHash(Base):
    """Hashes by which an image is recognised in other datasets."""

    __tablename__ = "image_hash"
    sha256: Mapped[str] = mapped_column(ForeignKey("media.sha256"), primary_key=True)
    phash: Mapped[int] = mapped_column(BigInteger)
    """The 64-bit perceptual hash as a signed number."""
    origin: Mapped[str | None] = mapped_column(String(50))
    """Its id in a public collection, `coco:9` or `vg:107`; NULL if its file name does not tell."""


class DatasetIndex(Base):
    """The index of a dataset split; indexing the split again replaces the row."""

    __tablename__ = "dataset_index"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    """The requested dataset name, for example `folder`."""
    path: Mapped[str] = mapped_column(String(1000))
    """The dataset's folder; empty for drawn or downloaded datasets."""
    split: Mapped[str] = mapped_column(String(50))
    dataset: Mapped[str | None] = mapped_column(String(200))
    """The dataset name of its examples; NULL until the dataset has been opened."""
    revision: Mapped[str | None] = mapped_column(String(200))
    limit: Mapped[Natural]
    """Maximum number of usable questions to index, from the first on."""
    state: Mapped[str] = mapped_column(String(16))
    """`starting`, `running`, `finished` or `failed`."""
    done: Mapped[Natural] = mapped_column(default=0)
    """Examples stored so far."""
    error: Mapped[str | None] = mapped_column(Text)
    host: Mapped[str | None] = mapped_column(String(200))
    boot_id: Mapped[str | None] = mapped_column(String(64))
    pid: Mapped[Natural | None]
    pid_started: Mapped[float | None]
    started_at: Mapped[Moment]
    indexed_at: Mapped[Moment | None]
    """When the statistics below were computed; NULL until indexing has finished."""
    rows: Mapped[Natural | None]
    """Rows read, usable or not."""
    usable: Mapped[Natural | None]
    images: Mapped[Natural | None]
    """Distinct images of the usable rows."""
    complete: Mapped[bool | None]
    """Whether the split ended before the limit was reached."""
    skipped: Mapped[dict[str, Any]]
    """Number of skipped rows by reason."""
    sizes: Mapped[dict[str, Any]]
    """`width` and `height` of the images in pixels: `min`, `median` and `max`."""
    __table_args__ = (UniqueConstraint("name", "path", "split"),)
