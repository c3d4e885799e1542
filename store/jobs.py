"""Writes of the queue: jobs, their processes and the workers that start them. Knows nothing of processes themselves.

A job is open (queued, starting, running, stopping) until `end_job` closes it, once.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from sqlalchemy import Connection, case, delete, func, insert, literal, select, update
from sqlalchemy.orm import aliased

from store.connection import Store, StoreError, writing
from store.rows import JobRef
from store.schema import ACTIVE, OPEN, Event, Job, JobState, Run, Worker
from store.sql import upsert
from store.values import clean, storable

STOP_WORDS = {1: "finish the step and save", 2: "terminate", 3: "kill"}


def new_uid() -> str:
    return secrets.token_hex(5)


def add_job(store: Store, run_id: int, kind: str, arguments: dict[str, Any]) -> JobRef:
    """Queues a process for a run, last in line."""
    uid, now = new_uid(), time.time()
    position = select(func.coalesce(func.max(Job.position), 0.0) + 1.0).scalar_subquery()
    with writing(store) as connection:
        job_id = connection.execute(
            insert(Job)
            .values(
                uid=uid,
                run_id=run_id,
                kind=kind,
                arguments=storable(arguments),
                state=JobState.QUEUED,
                position=position,
                created_at=now,
                heartbeat=0,
                stop_requested=0,
            )
            .returning(Job.id)
        ).scalar_one()
        note(connection, run_id, "launched", f"{kind.capitalize()} job queued.", job_id=job_id, at=now)
    return JobRef(job_id, uid)


def claim_job(store: Store, host: str) -> JobRef | None:
    """The oldest queued job whose run has no other open one, now starting on `host`; None when there is none.

    None too while the host is busy. Safe for any number of claimers: a job is handed out once.
    """
    other, sibling = aliased(Job), aliased(Job)
    busy = select(other.id).where(other.host == host, other.state.in_(ACTIVE)).exists()
    # A checkpoint is evaluated once its training has ended, on whatever host.
    before = select(sibling.id).where(sibling.run_id == other.run_id, sibling.state.in_(OPEN), sibling.id < other.id)
    oldest = (
        select(other.id)
        .where(other.state == JobState.QUEUED, ~before.exists())
        .order_by(other.position, other.id)
        .limit(1)
    )
    claim = (
        update(Job)
        .where(Job.id == oldest.scalar_subquery(), Job.state == JobState.QUEUED, ~busy)
        .values(state=JobState.STARTING, host=host)
        .returning(Job.id, Job.uid)
    )
    with writing(store) as connection:
        row = connection.execute(claim).first()
    return JobRef(*row) if row else None


def start_job(
    store: Store,
    job_id: int,
    *,
    host: str,
    boot_id: str | None,
    pid: int,
    pid_started: float | None,
    log_path: str | None,
) -> None:
    """The process of a job reports itself. StoreError when the job has ended or another process has it."""
    state = case((Job.state == JobState.STOPPING, literal(JobState.STOPPING)), else_=literal(JobState.RUNNING))
    start = (
        update(Job)
        .where(Job.id == job_id, Job.state.in_(OPEN), Job.started_at.is_(None))
        .values(
            state=state,
            started_at=time.time(),
            spoke_at=time.time(),
            host=host,
            boot_id=boot_id,
            pid=pid,
            pid_started=pid_started,
            log_path=log_path,
        )
        .returning(Job.run_id, Job.kind)
    )
    with writing(store) as connection:
        row = connection.execute(start).first()
        if row is None:
            raise StoreError(f"Job {job_id} cannot start: it has ended, or another process runs it.")
        step = connection.scalar(select(Run.step).where(Run.id == row.run_id)) or 0
        resumed = row.kind == "train" and step > 0
        message = f"Resumed from step {step}" if resumed else f"{row.kind.capitalize()} job started"
        note(
            connection,
            row.run_id,
            "resumed" if resumed else "started",
            f"{message} on {host} (process {pid}).",
            job_id=job_id,
            step=step if resumed else None,
        )


def beat(store: Store, job_id: int, activity: str | None = None) -> int:
    """A sign of life; returns the stop level that was asked for (0 none)."""
    values: dict[str, Any] = {"heartbeat": Job.heartbeat + 1}
    if activity is not None:
        values |= {"activity": clean(activity)[:200], "spoke_at": time.time()}
    with writing(store) as connection:
        statement = update(Job).where(Job.id == job_id).values(values).returning(Job.stop_requested)
        return connection.scalar(statement) or 0


def ask_stop(store: Store, job_id: int, level: int = 1) -> None:
    """Takes a queued job out of the queue; asks an active one to stop (1 save first, 2 terminate, 3 kill)."""
    with writing(store) as connection:
        row = connection.execute(select(Job.run_id, Job.state, Job.stop_requested).where(Job.id == job_id)).first()
        if row is None or row.state not in OPEN or row.stop_requested >= level:
            return
        note(connection, row.run_id, "stop_asked", f"Stop asked: {STOP_WORDS[level]}.", job_id=job_id)
        if row.state == JobState.QUEUED:
            _end(connection, job_id, JobState.STOPPED, error="Taken out of the queue.")
        else:
            values = {"stop_requested": level, "state": JobState.STOPPING}
            connection.execute(update(Job).where(Job.id == job_id).values(values))


def end_job(
    store: Store,
    job_id: int,
    state: JobState,
    *,
    exit_code: int | None = None,
    error_kind: str | None = None,
    error: str | None = None,
    traceback: str | None = None,
) -> bool:
    """Closes an open job; False, and nothing changed, when it was closed already."""
    with writing(store) as connection:
        return _end(
            connection, job_id, state, exit_code=exit_code, error_kind=error_kind, error=error, traceback=traceback
        )


def _end(connection: Connection, job_id: int, state: JobState, **columns: Any) -> bool:
    statement = (
        update(Job)
        .where(Job.id == job_id, Job.state.in_(OPEN))
        .values(state=state, ended_at=time.time(), activity=None, **{name: storable(v) for name, v in columns.items()})
        .returning(Job.run_id, Job.kind)
    )
    row = connection.execute(statement).first()
    if row is None:
        return False
    words = f"{row.kind.capitalize()} job {state.value.replace('_', ' ')}."
    note(connection, row.run_id, state.value, columns.get("error") or words, job_id=job_id)
    return True


def upsert_worker(store: Store, *, host: str, boot_id: str | None, pid: int, pid_started: float | None) -> None:
    """Registers the worker of a host, in place of an earlier one."""
    row = {"boot_id": boot_id, "pid": pid, "pid_started": pid_started, "heartbeat": 0, "started_at": time.time()}
    with writing(store) as connection:
        statement = upsert(connection.dialect.name, Worker).values(host=host, **row)
        connection.execute(statement.on_conflict_do_update(index_elements=["host"], set_=row))


def beat_worker(store: Store, host: str, pid: int) -> bool:
    """A sign of life; False when another worker has taken the host over."""
    statement = update(Worker).where(Worker.host == host, Worker.pid == pid).values(heartbeat=Worker.heartbeat + 1)
    with writing(store) as connection:
        return connection.execute(statement).rowcount == 1


def remove_worker(store: Store, host: str, pid: int) -> None:
    with writing(store) as connection:
        connection.execute(delete(Worker).where(Worker.host == host, Worker.pid == pid))


def note(
    connection: Connection,
    run_id: int,
    kind: str,
    message: str,
    *,
    job_id: int | None = None,
    step: int | None = None,
    at: float | None = None,
) -> None:
    """Adds an event inside a transaction."""
    row = {"run_id": run_id, "job_id": job_id, "at": at or time.time(), "step": step, "kind": kind}
    connection.execute(insert(Event).values(message=clean(message), **row))
