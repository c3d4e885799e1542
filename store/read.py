"""What the dashboard reads of runs, jobs, evaluations and events, as plain rows. Changes nothing.

Curves are in `store.series`, texts and examples in `store.traces`, datasets in `store.browse`; all are importable
from here.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select

from store import checking
from store import media as files
from store.browse import browse, count_examples, histogram, indexes, pictures, splits, verdicts
from store.connection import Store, StoreError, reading
from store.experiments import experiment, experiments
from store.find import count_found, find, iter_found, scan
from store.notes import remarks, trace_tags
from store.overview import MAIN_JOB_FIRST, configurations, runs
from store.rows import CheckpointRow, EvaluationRow, EventRow, JobRow, MediaRow, RunDetail, RunRef, WorkerRow
from store.schema import OPEN, Base, Checkpoint, Evaluation, Event, Job, JobState, Media, Run, Tag, Worker
from store.series import clock, ends, metric_names, running_total, series
from store.tokens import tokens_of
from store.traces import (
    completion,
    completions,
    completions_by_id,
    examples,
    groups,
    iter_completions,
    iter_predictions,
    iter_predictions_of,
    predictions,
    predictions_of,
    scores,
    step_bounds,
    texts_of_steps,
)

__all__ = [
    "browse",
    "checkpoints",
    "clock",
    "completion",
    "completions",
    "completions_by_id",
    "configurations",
    "count_examples",
    "count_found",
    "data_version",
    "ends",
    "evaluations",
    "events",
    "examples",
    "experiment",
    "experiments",
    "find",
    "groups",
    "histogram",
    "indexes",
    "iter_completions",
    "iter_found",
    "iter_predictions",
    "iter_predictions_of",
    "job",
    "job_lengths",
    "jobs",
    "media",
    "media_path",
    "metric_names",
    "named",
    "pictures",
    "predictions",
    "predictions_of",
    "remarks",
    "resolve",
    "run",
    "running_total",
    "runs",
    "scan",
    "scores",
    "series",
    "splits",
    "step_bounds",
    "texts_of_steps",
    "tokens_of",
    "trace_tags",
    "verdicts",
    "worker",
]

RECENT_JOBS = 200


class Broken(StoreError):
    """A run whose rows cannot be what they should."""

    def __init__(self, uid: object, fault: str) -> None:
        super().__init__(f"The run {uid} is broken ({fault}): delete it on the Runs page, or by `store delete {uid}`.")


_watching = threading.Lock()
_RUN: Any = Run.__table__


def resolve(store: Store, name_or_uid: str) -> int:
    """The id of the run with this uid, or with this name where only one has it. StoreError names close matches."""
    return named(store, name_or_uid).id


def named(store: Store, name_or_uid: str) -> RunRef:
    """The run with this uid or name, or with this id where its uid cannot be typed. Raises as `resolve`."""
    with reading(store) as connection:
        rows = connection.execute(select(Run.id, Run.uid, Run.name)).all()
    by_uid = [row for row in rows if str(row.uid) == name_or_uid]
    found = by_uid or [row for row in rows if row.name == name_or_uid]
    if not found:
        found = [row for row in rows if str(row.id) == name_or_uid and any(checking.faults(_RUN, {"uid": row.uid}))]
    if len(found) == 1:
        return RunRef(found[0].id, str(found[0].uid))
    if found:
        uids = _list(str(row.uid) for row in found)
        raise StoreError(f"{len(found)} runs are named {name_or_uid!r}: use a uid ({uids}).")
    known = {str(word) for row in rows for word in (row.name, row.uid)}
    close = difflib.get_close_matches(name_or_uid, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "list them with `python -m store runs`."
    raise StoreError(f"There is no run {name_or_uid!r} in {store.where}: {hint}")


def run(store: Store, run_id: int) -> RunDetail:
    """One run with the job that decides its status; StoreError when it is gone, or cannot be shown."""
    with reading(store) as connection:
        row = connection.execute(select(Run.__table__).where(Run.id == run_id)).mappings().first()
        if row is None:
            raise StoreError("This run is no longer in the database.")
        tags = tuple(connection.scalars(select(Tag.name).where(Tag.run_id == run_id).order_by(Tag.name)))
        main = connection.execute(_jobs().where(Job.run_id == run_id).order_by(*MAIN_JOB_FIRST).limit(1)).first()
    parts: list[tuple[Any, dict[str, Any]]] = [(_RUN, dict(row)), (Job.__table__, main._asdict() if main else {})]
    for table, part in parts:
        for name, fault in checking.faults(table, part):
            raise Broken(row["uid"], f"{name} of its {table.name} {fault}")
    return RunDetail(**row, tags=tags, job=JobRow._make(main) if main else None)


def jobs(store: Store, *, open_only: bool = False, run_id: int | None = None) -> list[JobRow]:
    """Jobs in the order of the queue."""
    statement = _jobs().order_by(Job.position, Job.id)
    if open_only:
        statement = statement.where(Job.state.in_(OPEN))
    if run_id is not None:
        statement = statement.where(Job.run_id == run_id)
    with reading(store) as connection:
        return [_sound(Job, JobRow, row) for row in connection.execute(statement)]


def job(store: Store, job_uid: str) -> JobRow:
    with reading(store) as connection:
        row = connection.execute(_jobs().where(Job.uid == job_uid)).first()
    if row is None:
        raise StoreError(f"There is no job {job_uid!r} in {store.where}.")
    return JobRow._make(row)


def job_lengths(store: Store) -> dict[str, float]:
    """Median seconds that the latest finished jobs of each kind took."""
    finished = select(Job.kind, Job.started_at, Job.ended_at).where(Job.state == JobState.FINISHED)
    lengths: dict[str, list[float]] = {}
    with reading(store) as connection:
        for kind, started_at, ended_at in connection.execute(finished.order_by(Job.id.desc()).limit(RECENT_JOBS)):
            lengths.setdefault(kind, []).append((ended_at or 0.0) - (started_at or 0.0))
    return {kind: median(each) for kind, each in lengths.items()}


def worker(store: Store, host: str) -> WorkerRow | None:
    """The process that drains the queue of a host, if one has registered."""
    with reading(store) as connection:
        row = connection.execute(select(*_columns(Worker, WorkerRow)).where(Worker.host == host)).first()
    return WorkerRow._make(row) if row else None


def evaluations(store: Store, run_id: int) -> list[EvaluationRow]:
    """All evaluations of a run, by step; unfinished ones have no `ended_at`."""
    statement = select(*_columns(Evaluation, EvaluationRow)).where(Evaluation.run_id == run_id)
    with reading(store) as connection:
        rows = connection.execute(statement.order_by(Evaluation.step, Evaluation.id))
        return [_sound(Evaluation, EvaluationRow, row) for row in rows]


def events(store: Store, run_id: int, *, after_id: int = 0) -> list[EventRow]:
    """Events of a run, oldest first; `after_id` leaves out those that are known already."""
    statement = select(*_columns(Event, EventRow)).where(Event.run_id == run_id, Event.id > after_id)
    with reading(store) as connection:
        return [_sound(Event, EventRow, row) for row in connection.execute(statement.order_by(Event.id))]


def checkpoints(store: Store, run_id: int) -> list[CheckpointRow]:
    statement = select(*_columns(Checkpoint, CheckpointRow)).where(Checkpoint.run_id == run_id)
    with reading(store) as connection:
        return [
            _sound(Checkpoint, CheckpointRow, row) for row in connection.execute(statement.order_by(Checkpoint.step))
        ]


def media(store: Store, sha256: str) -> MediaRow:
    """Type and size of an image; StoreError when there is none of this hash."""
    with reading(store) as connection:
        row = connection.execute(select(*_columns(Media, MediaRow)).where(Media.sha256 == sha256)).first()
    if row is None:
        raise StoreError("There is no image of this hash.")
    return MediaRow._make(row)


def media_path(store: Store, sha256: str) -> Path:
    """An image as a file of this machine, brought here first where images lie at a URL.

    Raises StoreError when it is gone or damaged, or when `sha256` is no 64 hexadecimal digits.
    """
    return files.local(store.media, sha256)


def data_version(store: Store) -> int:
    """A number that changes when another process has committed something; cheap enough to ask each second."""
    if store.engine.dialect.name == "sqlite":
        with _watching:
            return int(store.watcher.execute("PRAGMA data_version").fetchone()[0])
    with reading(store) as connection:
        return int(connection.execute(select(func.txid_snapshot_xmax(func.txid_current_snapshot()))).scalar_one())


def _jobs() -> Select[Any]:
    extra = {"run_uid": Run.uid.label("run_uid"), "run_name": Run.name.label("run_name")}
    return select(*_columns(Job, JobRow, extra)).join(Run, Run.id == Job.run_id)


def _columns(table: type[Base], row: Any, extra: Mapping[str, ColumnElement[Any]] | None = None) -> list[Any]:
    """The columns that a NamedTuple is made of, in its order."""
    return [extra[name] if extra and name in extra else table.__table__.c[name] for name in row._fields]


def _sound(table: type[Base], kind: Any, row: Row[Any]) -> Any:
    """A row of the NamedTuple `kind`, with an empty value for each that cannot be."""
    own: Any = table.__table__
    return kind(**checking.sound(own, row._asdict()))


def _list(words: Any) -> str:
    return ", ".join(sorted(words))
