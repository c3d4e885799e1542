"""The queue in the database: jobs, their processes, and the workers that start them.

A job is open (queued, starting, running, stopping) until `end_job` closes it, once. `schema.COMES_FROM` defines the
transitions between states, and `_move` is the only statement that makes one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Sequence
from statistics import median
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, select, update
from sqlalchemy.orm import aliased

from store.db.connection import Store, StoreError, reading, writing
from store.db.redaction import redacted_values
from store.db.rows import JobRef, JobRow, WorkerRow
from store.db.schema import Checkpoint, Job, Run, Worker
from store.db.sql import columns, sound_row, upsert
from store.db.states import ACTIVE, COMES_FROM, OPEN, JobState, Launcher
from store.db.values import clean, storable
from store.events import insert_event

STOP_WORDS = {1: "finish the step and save", 2: "terminate", 3: "kill", 4: "give up"}
RECENT_JOBS = 200
Moved: TypeAlias = Row[int, str, int, str, dict[str, Any]]
"""A job's id, uid, run, kind and arguments."""


def new_uid() -> str:
    return secrets.token_hex(5)


def add_job(
    store: Store,
    run_id: int,
    kind: str,
    arguments: dict[str, Any],
    *,
    launcher: str = Launcher.LOCAL,
    state: JobState = JobState.QUEUED,
    at: float | None = None,
) -> JobRef:
    """Add a job to the end of the queue. A process that already runs is added as `starting`, which no worker claims.

    `at` is the time, by default now.
    """
    uid, now = new_uid(), time.time() if at is None else at
    position = select(func.coalesce(func.max(Job.position), 0.0) + 1.0).scalar_subquery()
    with writing(store) as connection:
        job_id = connection.execute(
            insert(Job)
            .values(
                uid=uid,
                run_id=run_id,
                kind=kind,
                arguments=storable(arguments),
                launcher=launcher,
                state=state,
                position=position,
                created_at=now,
                heartbeat=0,
                stop_requested=0,
            )
            .returning(Job.id)
        ).scalar_one()
        insert_event(connection, run_id, "launched", f"{kind.capitalize()} job queued.", job_id=job_id, at=now)
    return JobRef(job_id, uid)


def claim_job(store: Store, host: str, devices: Sequence[str] = ("cpu",)) -> JobRef | None:
    """Claim the next queued job for a free device of `host` and mark it as starting; return None if there is none.

    A run's jobs start in order, one at a time. A job with several `processes` needs as many devices, or all that the
    host has, and waits until they are free. Jobs for a cluster are never claimed by a host. A running job without an
    assigned device holds all of them. Any number of processes may claim concurrently; each job is claimed only once.
    """
    other, sibling = aliased(Job), aliased(Job)
    # A checkpoint is evaluated only after its training has ended, on any host.
    before = select(sibling.id).where(sibling.run_id == other.run_id, sibling.state.in_(OPEN), sibling.id < other.id)
    first = (
        select(other.id, other.arguments)
        .where(other.state == JobState.QUEUED, other.launcher == Launcher.LOCAL, ~before.exists())
        .order_by(other.position, other.id)
        .limit(1)
    )
    with writing(store) as connection:
        active_here = (Job.host == host, Job.launcher == Launcher.LOCAL, Job.state.in_(ACTIVE))
        held_devices = list(connection.scalars(select(Job.device).where(*active_here)))
        used_devices = {device for names in held_devices if names is not None for device in names.split(",")}
        free = [device for device in devices if device not in used_devices]
        if None in held_devices or not free or (job := connection.execute(first).first()) is None:
            return None
        needed = min(int(job.arguments.get("processes", 1)), len(devices))
        if len(free) < needed:
            return None
        names = ",".join(free[:needed])
        row = _move(connection, Job.id == job.id, JobState.STARTING, host=host, device=names)
    return JobRef(row.id, row.uid) if row else None


def place_job(store: Store, job_id: int, log_path: str) -> None:
    """Mark a queued job as starting, because a cluster is starting its process, which will report itself."""
    with writing(store) as connection:
        _move(connection, Job.id == job_id, JobState.STARTING, log_path=log_path, activity=None)


def shift_job(store: Store, job_id: int, *, earlier: bool) -> bool:
    """Swap a queued job with its neighbour in the queue; return False if there is none or the job is not queued."""
    waits = (Job.state == JobState.QUEUED, Job.launcher == Launcher.LOCAL)
    queue = select(Job.id, Job.position).where(*waits).order_by(Job.position, Job.id)
    with writing(store) as connection:
        rows = connection.execute(queue).all()
        place = next((i for i, row in enumerate(rows) if row.id == job_id), None)
        if place is None or not 0 <= (other := place + (-1 if earlier else 1)) < len(rows):
            return False
        for position, there in ((place, other), (other, place)):
            change = update(Job).where(Job.id == rows[position].id).values(position=rows[there].position)
            connection.execute(change)
    return True


def start_job(
    store: Store,
    job_id: int,
    *,
    host: str,
    boot_id: str | None,
    pid: int,
    pid_started: float | None,
    log_path: str | None,
    device: str | None = None,
    at: float | None = None,
) -> None:
    """Mark a job as running, from its own process. Raises StoreError if it has ended or belongs to another process.

    `device` is what the process took if none was assigned; `at` is the time, by default now.
    """
    now = time.time() if at is None else at
    columns = {
        "started_at": now,
        "spoke_at": now,
        "host": host,
        "boot_id": boot_id,
        "pid": pid,
        "pid_started": pid_started,
        "log_path": log_path,
    } | ({"device": device} if device else {})
    which = (Job.id == job_id) & Job.started_at.is_(None)
    with writing(store) as connection:
        # Keep a stop that was requested in the meantime.
        row = _move(connection, which, JobState.RUNNING, **columns) or _move(
            connection, which, JobState.STOPPING, **columns
        )
        if row is None:
            raise StoreError(f"Job {job_id} cannot start, because it has ended or another process runs it.")
        step = _going_on_from(connection, row)
        resumed = step > 0
        message = f"Resumed from step {step}" if resumed else f"{row.kind.capitalize()} job started"
        insert_event(
            connection,
            row.run_id,
            "resumed" if resumed else "started",
            f"{message} on {host} (process {pid}).",
            job_id=job_id,
            step=step if resumed else None,
            at=now,
        )


def _going_on_from(connection: Connection, job: Moved) -> int:
    """Return the step after which a training continues; 0 if it begins, and for other jobs.

    Our trainer continues from its last checkpoint, even if later steps were recorded. A script continues where its
    records end.
    """
    if job.kind != "train":
        return 0
    saved = select(Checkpoint.step).where(Checkpoint.run_id == job.run_id, Checkpoint.kind == "last")
    recorded = select(Run.step).where(Run.id == job.run_id)
    return connection.scalar(saved if job.arguments.get("resume") else recorded) or 0


def beat_job(
    store: Store, job_id: int, activity: str | None = None, done: int | None = None, total: int | None = None
) -> int:
    """Record a heartbeat; return the requested stop level (0 for none).

    With an `activity`, `done` and `total` are its progress; if they are absent, earlier progress is cleared.
    """
    values: dict[str, Any] = {"heartbeat": Job.heartbeat + 1}
    if activity is not None:
        values |= {"activity": clean(activity)[:200], "spoke_at": time.time(), "done": done, "total": total}
    with writing(store) as connection:
        statement = update(Job).where(Job.id == job_id).values(values).returning(Job.stop_requested)
        return connection.scalar(statement) or 0


def hear_job(store: Store, job_id: int, at: float, *, is_alive: bool) -> int:
    """Record when a script last reported; return the requested stop level (0 for none).

    Records read from its folder are no heartbeat (`is_alive` is False); `at` is then the time when they were written.
    """
    values: dict[str, Any] = {"spoke_at": at} | ({"heartbeat": Job.heartbeat + 1} if is_alive else {})
    with writing(store) as connection:
        statement = update(Job).where(Job.id == job_id).values(values).returning(Job.stop_requested)
        return connection.scalar(statement) or 0


def advance_job(store: Store, job_id: int, done: int, total: int) -> int:
    """Record a job's progress; return the requested stop level (0 for none)."""
    values = {"done": done, "total": total, "heartbeat": Job.heartbeat + 1, "spoke_at": time.time()}
    with writing(store) as connection:
        statement = update(Job).where(Job.id == job_id).values(values).returning(Job.stop_requested)
        return connection.scalar(statement) or 0


def ask_stop(store: Store, job_id: int, level: int = 1) -> None:
    """Cancel a queued job, or ask an active one to stop with a level of STOP_WORDS."""
    with writing(store) as connection:
        _ask_stop(connection, job_id, level)


def ask_all_to_stop(store: Store, run_ids: Collection[int], level: int = 1) -> list[JobRef]:
    """Apply `ask_stop` to all open jobs of these runs in one transaction, so that none starts in between.

    Return those jobs.
    """
    open_jobs = select(Job.id, Job.uid).where(Job.run_id.in_(run_ids), Job.state.in_(OPEN)).order_by(Job.id)
    with writing(store) as connection:
        jobs = [JobRef(*row) for row in connection.execute(open_jobs)]
        for job in jobs:
            _ask_stop(connection, job.id, level)
    return jobs


def _ask_stop(connection: Connection, job_id: int, level: int) -> None:
    row = connection.execute(select(Job.run_id, Job.state, Job.stop_requested).where(Job.id == job_id)).first()
    if row is None or row.state not in OPEN or row.stop_requested >= level:
        return
    insert_event(connection, row.run_id, "stop_asked", f"Stop requested: {STOP_WORDS[level]}.", job_id=job_id)
    if row.state == JobState.QUEUED:
        _end(connection, job_id, JobState.STOPPED, error="Removed from the queue.")
    else:
        _move(connection, Job.id == job_id, JobState.STOPPING, stop_requested=level)


def end_job(
    store: Store,
    job_id: int,
    state: JobState,
    *,
    exit_code: int | None = None,
    error_kind: str | None = None,
    error: str | None = None,
    traceback: str | None = None,
    at: float | None = None,
) -> bool:
    """Close an open job, now or `at` a time. Return False and change nothing if it is already closed."""
    outcome = {"exit_code": exit_code, "error_kind": error_kind, "error": error, "traceback": traceback}
    with writing(store) as connection:
        return _end(connection, job_id, state, at, **outcome)


def correct_end(
    store: Store, job_id: int, state: JobState, *, exit_code: int | None, error: str | None, at: float | None = None
) -> bool:
    """Replace the assumed end of a job, whose process was not found, by the end that the process itself reports."""
    concluded = (Job.id == job_id, Job.state.in_((JobState.KILLED, JobState.LOST)))
    outcome = {"exit_code": exit_code, "error": redacted_values(storable(error), "error"), "error_kind": None}
    outcome |= {} if at is None else {"ended_at": at}
    with writing(store) as connection:
        move = update(Job).where(*concluded).values(state=state, traceback=None, **outcome)
        row = connection.execute(move.returning(Job.run_id, Job.kind)).first()
        if row is not None:
            message = f"Its process reported later: {row.kind} job {state.value.replace('_', ' ')}."
            insert_event(connection, row.run_id, state.value, error or message, job_id=job_id)
    return row is not None


def upsert_worker(store: Store, *, host: str, boot_id: str | None, pid: int, pid_started: float | None) -> None:
    """Register the worker of a host, replacing an earlier one."""
    row = {"boot_id": boot_id, "pid": pid, "pid_started": pid_started, "heartbeat": 0, "started_at": time.time()}
    with writing(store) as connection:
        statement = upsert(connection.dialect.name, Worker).values(host=host, **row)
        connection.execute(statement.on_conflict_do_update(index_elements=["host"], set_=row))


def beat_worker(store: Store, host: str, pid: int) -> bool:
    """Record a heartbeat; return False if another worker has taken over the host."""
    statement = update(Worker).where(Worker.host == host, Worker.pid == pid).values(heartbeat=Worker.heartbeat + 1)
    with writing(store) as connection:
        return connection.execute(statement).rowcount == 1


def remove_worker(store: Store, host: str, pid: int) -> None:
    with writing(store) as connection:
        connection.execute(delete(Worker).where(Worker.host == host, Worker.pid == pid))


def list_jobs(store: Store, *, open_only: bool = False, run_id: int | None = None) -> list[JobRow]:
    """Return jobs in the order of the queue."""
    statement = _jobs().order_by(Job.position, Job.id)
    if open_only:
        statement = statement.where(Job.state.in_(OPEN))
    if run_id is not None:
        statement = statement.where(Job.run_id == run_id)
    with reading(store) as connection:
        return [sound_row(Job, JobRow, row) for row in connection.execute(statement)]


def get_job(store: Store, job_uid: str) -> JobRow:
    with reading(store) as connection:
        row = connection.execute(_jobs().where(Job.uid == job_uid)).first()
    if row is None:
        raise StoreError(f"Job {job_uid!r} does not exist in {store.where}.")
    return JobRow._make(row)


def job_lengths(store: Store) -> dict[str, float]:
    """Return the median duration of the latest finished jobs of each kind, in seconds."""
    finished = select(Job.kind, Job.started_at, Job.ended_at).where(Job.state == JobState.FINISHED)
    lengths: dict[str, list[float]] = {}
    with reading(store) as connection:
        for kind, started_at, ended_at in connection.execute(finished.order_by(Job.id.desc()).limit(RECENT_JOBS)):
            lengths.setdefault(kind, []).append((ended_at or 0.0) - (started_at or 0.0))
    return {kind: median(each) for kind, each in lengths.items()}


def get_worker(store: Store, host: str) -> WorkerRow | None:
    """Return the worker of a host, or None."""
    with reading(store) as connection:
        row = connection.execute(select(*columns(Worker, WorkerRow)).where(Worker.host == host)).first()
    return WorkerRow._make(row) if row else None


def _move(connection: Connection, which: ColumnElement[bool], to: JobState, **columns: Any) -> Moved | None:
    """Move a job to a state and return it; return None if its present state does not allow that."""
    move = update(Job).where(which, Job.state.in_(COMES_FROM[to])).values(state=to, **columns)
    return connection.execute(move.returning(Job.id, Job.uid, Job.run_id, Job.kind, Job.arguments)).first()


def _end(connection: Connection, job_id: int, state: JobState, at: float | None = None, **columns: Any) -> bool:
    values = {name: redacted_values(storable(value), name) for name, value in columns.items()}
    ended = time.time() if at is None else at
    row = _move(connection, Job.id == job_id, state, ended_at=ended, activity=None, **values)
    if row is None:
        return False
    words = f"{row.kind.capitalize()} job {state.value.replace('_', ' ')}."
    insert_event(connection, row.run_id, state.value, columns.get("error") or words, job_id=job_id, at=ended)
    return True


def _jobs() -> Select[Any]:
    extra = {"run_uid": Run.uid.label("run_uid"), "run_name": Run.name.label("run_name")}
    return select(*columns(Job, JobRow, extra)).join(Run, Run.id == Job.run_id)
