"""Events and checkpoints of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import Connection, insert, select, update

from store.db.connection import Store, reading, writing
from store.db.redaction import redact
from store.db.rows import CheckpointRow, EventRow
from store.db.schema import (
    Checkpoint,
    Event,
)
from store.db.sql import columns, sound_row, upsert
from store.db.values import clean, finite


def list_events(store: Store, run_id: int, *, after_id: int = 0) -> list[EventRow]:
    """Return events of a run after `after_id`, oldest first."""
    statement = select(*columns(Event, EventRow)).where(Event.run_id == run_id, Event.id > after_id)
    with reading(store) as connection:
        return [sound_row(Event, EventRow, row) for row in connection.execute(statement.order_by(Event.id))]


def list_checkpoints(store: Store, run_id: int) -> list[CheckpointRow]:
    return checkpoints_by_run(store, [run_id])[run_id]


def checkpoints_by_run(store: Store, run_ids: Sequence[int]) -> dict[int, list[CheckpointRow]]:
    """Return the checkpoints of each of these runs, by step."""
    statement = select(*columns(Checkpoint, CheckpointRow)).where(Checkpoint.run_id.in_(run_ids))
    by_run: dict[int, list[CheckpointRow]] = {id: [] for id in run_ids}
    with reading(store) as connection:
        for row in connection.execute(statement.order_by(Checkpoint.step)):
            by_run[row.run_id].append(sound_row(Checkpoint, CheckpointRow, row))
    return by_run


def add_event(
    store: Store, run_id: int, kind: str, message: str, *, job_id: int | None = None, step: int | None = None
) -> None:
    with writing(store) as connection:
        insert_event(connection, run_id, kind, message, job_id=job_id, step=step)


def set_checkpoint(
    store: Store,
    run_id: int,
    *,
    kind: str,
    step: int,
    path: str,
    value: float | None = None,
    is_best: bool = False,
) -> None:
    """Record the path of the `last`, `best` or `final` weights; `value` is the accuracy by which they were chosen.

    `is_best` also records them as `best` in the same transaction, so that a crash between two writes cannot lose that.
    """
    row = {"step": step, "path": clean(path), "value": finite(value), "created_at": time.time()}
    accuracy = "" if row["value"] is None else f" (accuracy {row['value']:.3f})"
    with writing(store) as connection:
        for checkpoint_kind in (kind, "best") if is_best else (kind,):
            statement = upsert(connection.dialect.name, Checkpoint).values(run_id=run_id, kind=checkpoint_kind, **row)
            connection.execute(statement.on_conflict_do_update(index_elements=["run_id", "kind"], set_=row))
            message = f"{checkpoint_kind.capitalize()} checkpoint saved at step {step}{accuracy}."
            insert_event(connection, run_id, "best" if checkpoint_kind == "best" else "checkpoint", message, step=step)


def move_checkpoints(store: Store, run_id: int, places: dict[str, str]) -> None:
    """Record the new paths of checkpoints that were moved, by their old paths."""
    with writing(store) as connection:
        for old, new in places.items():
            where = (Checkpoint.run_id == run_id, Checkpoint.path == old)
            connection.execute(update(Checkpoint).where(*where).values(path=clean(new)))


def insert_event(
    connection: Connection,
    run_id: int,
    kind: str,
    message: str,
    *,
    job_id: int | None = None,
    step: int | None = None,
    at: float | None = None,
) -> None:
    """Add an event inside a transaction."""
    row = {"run_id": run_id, "job_id": job_id, "at": at or time.time(), "step": step, "kind": kind}
    connection.execute(insert(Event).values(message=clean(redact(message)), **row))
