"""The worker of a host, `python -m trainer queue`: start queued jobs, one per device, and wait for them.

A file lock ensures that there is only one worker per host, and a table shows it to other processes. The worker keeps no
state: after a restart it finds the host's jobs in the database.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import NamedTuple

from filelock import FileLock, Timeout

from store.db import private
from store.db.engine import Store, StoreError
from store.db.rows import JobRow
from store.db.states import OPEN, JobState, Launcher
from store.jobs import beat_worker, claim_job, end_job, get_job, list_jobs, remove_worker, upsert_worker
from store.runs import get_run
from store.terminal import shown
from trainer.launch import devices, endings, identity, local, threads
from trainer.launch.identity import Identity
from trainer.launch.supervision import Supervisor
from trainer.spec import errors

IDLE_SECONDS = 30.0
TICK_SECONDS = 0.5
BEAT_SECONDS = 5.0
WAIT_SECONDS = 1.0
LOCK_SECONDS = 5.0
"""Seconds to wait for a worker that is exiting."""
PATIENCE_SECONDS = 600.0
"""Seconds without an answer after which the worker gives up on the database."""


def work(store: Store, *, idle: float = IDLE_SECONDS) -> None:
    """Drain the queue. Return after `idle` seconds without work, or at once if this host has another worker."""
    private.lock_folder(local.data_folder(store))
    try:
        with FileLock(local.queue_lock(store), timeout=LOCK_SECONDS, mode=private.FILE):
            _drain(store, idle)
    except Timeout:
        say("another worker drains this queue")


def _drain(store: Store, idle: float) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    me = identity.current()
    worker = Worker(store, me)
    try:
        while True:
            upsert_worker(store, host=me.host, boot_id=me.boot_id, pid=me.pid, pid_started=me.started)
            until_idle(worker.look, idle, TICK_SECONDS)
            remove_worker(store, me.host, me.pid)
            # A process that queued a job while this worker was still registered relies on it.
            if not worker.has_work():
                return
    except SystemExit:
        remove_worker(store, me.host, me.pid)
        raise


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


class Child(NamedTuple):
    """A job process that this worker started."""

    process: subprocess.Popen[bytes]
    job: JobRow


@dataclass
class Worker:
    """Starts jobs and waits for them; `children` are keyed by job uid."""

    store: Store
    me: Identity
    children: dict[str, Child] = field(default_factory=dict)
    _threads: dict[int, int] = field(default_factory=dict)
    """Threads per process by run id."""
    _beaten: float = field(default=0.0)

    def look(self) -> bool:
        """Check on the children, this host's other jobs and the queue; return whether any jobs are open."""
        self.collect()
        if time.monotonic() - self._beaten > BEAT_SECONDS:
            self._beaten = time.monotonic()
            beat_worker(self.store, self.me.host, self.me.pid)
        for job in endings.active_here(self.store):
            self.look_after(job)
        while self.start_next():
            pass
        return self.has_work()

    def collect(self) -> None:
        """Collect the exit codes of ended children, and close their jobs if they did not do so themselves."""
        for uid, (process, job) in list(self.children.items()):
            if process.poll() is None:
                continue
            for sentence in endings.close(self.store, uid, process.returncode):
                say(sentence)
            say(f"job {uid} of {job.run_name} ended with {process.returncode}")
            del self.children[uid]

    def look_after(self, job: JobRow) -> None:
        """Carry out kill requests from other hosts, and close a job that another process started and that has died."""
        process = endings.process_of(job) if job.stop_requested >= 3 else None
        if process is not None:
            local.kill(process, job.uid)
        if job.uid not in self.children and endings.is_gone(job):
            for sentence in endings.close(self.store, job.uid):
                say(sentence)

    def start_next(self) -> bool:
        """Start the first queued job if a device is free; return False if nothing was started."""
        claimed = claim_job(self.store, self.me.host, self._devices())
        if claimed is None:
            return False
        job = get_job(self.store, claimed.uid)
        say(f"starting job {job.uid} of {job.run_name} on {job.device}")
        try:
            self.children[job.uid] = Child(local.start(self.store, job), job)
        except OSError as error:
            kind, sentence = errors.classify(error)
            end_job(self.store, job.id, JobState.FAILED, error_kind=kind, error=sentence)
        return True

    def _devices(self) -> Sequence[str]:
        """Return the devices that this host's running and queued jobs may hold at the same time."""
        jobs = [job for job in list_jobs(self.store, open_only=True) if job.launcher == Launcher.LOCAL]
        run_ids = {job.run_id for job in jobs if job.host in (None, self.me.host)}
        for run_id in run_ids - self._threads.keys():
            self._threads[run_id] = threads.count(get_run(self.store, run_id).config)
        return devices.places([self._threads[run_id] for run_id in run_ids])

    def has_work(self) -> bool:
        """Return whether any job is queued or runs on this host."""
        jobs = [job for job in list_jobs(self.store, open_only=True) if job.launcher == Launcher.LOCAL]
        return any(job.state == JobState.QUEUED or job.host == self.me.host for job in jobs)


def until_idle(look: Callable[[], bool], idle: float, every: float) -> None:
    """Call `look` every `every` seconds until there has been nothing to do for `idle` seconds.

    Raises StoreError if the database does not answer for too long.
    """
    busy_at = answered_at = time.monotonic()
    while time.monotonic() - busy_at < idle:
        try:
            is_busy = look()
            answered_at = time.monotonic()
            if is_busy:
                busy_at = answered_at
        except StoreError as error:
            if time.monotonic() - answered_at > PATIENCE_SECONDS:
                raise
            say(f"{error} Retrying.")
            busy_at = time.monotonic()
        time.sleep(every)


def wait(store: Store, run_ids: Collection[int]) -> list[JobRow]:
    """Wait until all jobs of these runs have ended, and return them. Print starts and ends; replace a dead worker."""
    last_states: dict[str, str] = {}
    supervisor = Supervisor(store)
    while True:
        supervisor.look()
        jobs = [job for job in list_jobs(store) if job.run_id in run_ids]
        for job in jobs:
            if last_states.setdefault(job.uid, JobState.QUEUED) != job.state:
                last_states[job.uid] = job.state
                say(f"{job.run_name}: {job.kind} {job.arguments.get('benchmark', '')} {job.state}")
        if all(job.state not in OPEN for job in jobs):
            return jobs
        time.sleep(WAIT_SECONDS)


def say(text: str) -> None:
    with suppress(OSError):  # the disk with the log may be full
        print(time.strftime("%Y-%m-%d %H:%M:%S"), shown(text), flush=True)
