"""Report the state of the database: its size, log, schema, contents and workers. Read-only."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, make_url, select, text

from store.db.connection import Store, reading, sqlite_path
from store.db.rows import WorkerRow
from store.db.schema import (
    Base,
    Checkpoint,
    Completion,
    DatasetIndex,
    Evaluation,
    Example,
    Job,
    Media,
    Prediction,
    Run,
    Worker,
)

COUNTED: dict[str, type[Base]] = {
    "runs": Run,
    "jobs": Job,
    "completions": Completion,
    "evaluations": Evaluation,
    "predictions": Prediction,
    "examples": Example,
    "indexes": DatasetIndex,
}


class DatabaseState(NamedTuple):
    """Sizes are in bytes; `size`, `log_size`, `mode` and `free` are None unless the database is an SQLite file."""

    where: str
    driver: str
    schema: str
    size: int | None
    free: int | None
    """Unused bytes inside the file, which are used before it grows."""
    log_size: int | None
    """Size of the write-ahead log, which cannot shrink while readers are open."""
    mode: str | None
    rows: dict[str, int]
    images: int
    image_bytes: int


def describe(store: Store) -> DatabaseState:
    path = sqlite_path(make_url(store.url))
    with reading(store) as connection:
        rows = {
            name: connection.scalar(select(func.count()).select_from(table)) or 0 for name, table in COUNTED.items()
        }
        images, image_bytes = connection.execute(select(func.count(), func.coalesce(func.sum(Media.size), 0))).one()
        schema = str(connection.scalar(text("SELECT version_num FROM alembic_version")))
        mode = free = None
        if path is not None:
            mode = str(connection.scalar(text("PRAGMA journal_mode")))
            free = (connection.scalar(text("PRAGMA freelist_count")) or 0) * (
                connection.scalar(text("PRAGMA page_size")) or 0
            )
    return DatabaseState(
        where=store.where,
        driver=store.engine.dialect.name,
        schema=schema,
        size=_size(path) if path else None,
        free=free,
        log_size=_size(Path(f"{path}-wal")) if path else None,
        mode=mode,
        rows=rows,
        images=images,
        image_bytes=int(image_bytes),
    )


class Belongings(NamedTuple):
    """Numbers of rows that belong to a run."""

    completions: int
    evaluations: int
    predictions: int
    checkpoints: int


def belongings(store: Store, run_id: int) -> Belongings:
    """Return what deleting the run would delete."""
    evaluations = select(Evaluation.id).where(Evaluation.run_id == run_id)
    counts = (
        select(func.count()).select_from(Completion).where(Completion.run_id == run_id),
        select(func.count()).select_from(evaluations.subquery()),
        select(func.count()).select_from(Prediction).where(Prediction.evaluation_id.in_(evaluations)),
        select(func.count()).select_from(Checkpoint).where(Checkpoint.run_id == run_id),
    )
    with reading(store) as connection:
        return Belongings(*(connection.scalar(count) or 0 for count in counts))


def workers(store: Store) -> list[WorkerRow]:
    """Return the registered workers of all hosts, including dead ones."""
    columns = [Worker.__table__.c[name] for name in WorkerRow._fields]
    with reading(store) as connection:
        return [WorkerRow._make(row) for row in connection.execute(select(*columns).order_by(Worker.host))]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
