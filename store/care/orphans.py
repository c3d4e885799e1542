"""Find and remove examples, images and output folders that no run needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, and_, delete, func, select

from store.db import ownership
from store.db.bucket import Listed
from store.db.connection import Store, StoreError, reading, writing
from store.db.schema import Base, DatasetIndex, Example, ExampleImage, ImageHash, Job, Media, Run
from store.db.states import ACTIVE
from store.media import files as media


class Orphans(NamedTuple):
    """Numbers of unused examples and images in the database, stray files and folders, and their total size in bytes."""

    examples: int
    images: int
    files: tuple[Listed, ...]
    folders: tuple[Path, ...]
    size: int

    @property
    def any(self) -> bool:
        return bool(self.examples or self.images or self.files or self.folders)


def find(store: Store) -> Orphans:
    """Return what can be removed."""
    with reading(store) as connection:
        examples = connection.scalar(select(func.count()).select_from(Example).where(_unused_examples())) or 0
        images = connection.scalars(select(Media.size).where(_unused_images())).all()
        known_hashes = set(connection.scalars(select(Media.sha256)))
        runs = set(connection.scalars(select(Run.uid)))
    files, folders = tuple(media.strays(store.media, known_hashes)), tuple(_stray_folders(store, runs))
    size = sum(images) + sum(file.size for file in files) + sum(map(_bytes, folders))
    return Orphans(examples, len(images), files, folders, size)


def remove(store: Store) -> Orphans:
    """Remove orphans and return what was removed. Raises StoreError if a job or indexing process is active."""
    removed = find(store)
    with writing(store) as connection:
        _require_rest(connection)
        connection.execute(delete(Example).where(_unused_examples()))
        unused = select(Media.sha256).where(_unused_images())
        sha256s = connection.scalars(unused).all()
        connection.execute(delete(ImageHash).where(ImageHash.sha256.in_(unused)))
        connection.execute(delete(Media).where(_unused_images()))
    media.remove(store.media, [*map(media.name_of, sha256s), *(file.name for file in removed.files)])
    for folder in removed.folders:
        shutil.rmtree(folder, ignore_errors=True)
    return removed


def _require_rest(connection: Connection) -> None:
    at_work = select(Job.uid).where(Job.state.in_(ACTIVE)).limit(1)
    indexing = select(DatasetIndex.id).where(DatasetIndex.state.in_(("starting", "running"))).limit(1)
    if connection.scalar(at_work) or connection.scalar(indexing):
        raise StoreError("A job or an indexing process is running and may need them. Wait until it has ended.")


def _unused_examples() -> ColumnElement[bool]:
    """Return the condition that an example has no answers and is in no index."""
    answers = [~select(column).where(column == Example.id).exists() for column in _keeping_examples()]
    index = select(DatasetIndex.id).where(DatasetIndex.dataset == Example.dataset, DatasetIndex.split == Example.split)
    return and_(*answers, ~index.exists())


def _keeping_examples() -> Iterator[Column[Any]]:
    """Yield the columns that refer to an example from tables that are not part of it."""
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_keys:
            if key.column.table is Example.__table__ and key.ondelete != "CASCADE":
                yield key.parent


def _unused_images() -> ColumnElement[bool]:
    """Return the condition that no used example has an image."""
    unused = select(Example.id).where(_unused_examples())
    used = select(ExampleImage.sha256).where(
        ExampleImage.sha256 == Media.sha256, ExampleImage.example_id.not_in(unused)
    )
    return ~used.exists()


def _stray_folders(store: Store, known_uids: set[str]) -> Iterator[Path]:
    """Yield the output folders of deleted runs of this database."""
    database_id = ownership.identity(store)
    for path in sorted((store.folder / ownership.RUN_FOLDERS).glob("*")):
        holder = None if path.is_symlink() else ownership.owner(path)
        if holder is not None and holder.database == database_id and holder.run not in known_uids:
            yield path


def _bytes(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())
