"""Run one job in this process: register it, send heartbeats, do the work, and close it with a reason.

The module for the job's kind is imported when the work begins.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, TextIO

from store.db.engine import Store, StoreError
from store.db.rows import JobRow
from store.db.states import JobState, Launcher
from store.jobs import end_job, start_job
from store.terminal import shown
from trainer import launch
from trainer.jobs.activity import is_asked_to_stop, say
from trainer.jobs.heartbeat import Heartbeat
from trainer.jobs.machine import Machine
from trainer.jobs.progress import Progress
from trainer.jobs.stopping import StopFlag
from trainer.launch import identity, webhook
from trainer.launch.local import JOB_VARIABLE
from trainer.spec.config import ConfigError
from trainer.spec.errors import NO_DISK, Stopped, TrainerError, classify

Work = Callable[[Store, int], None]
FINISHED, FAILED, BAD_CONFIG = 0, 1, 2
OUTAGE_SECONDS = 900.0
"""Seconds for which a job waits for a database server that does not answer when it needs the database."""


class Outcome(NamedTuple):
    """How the work ended, as the arguments of `store.jobs.end_job`."""

    state: JobState
    exit_code: int
    kind: str | None = None
    error: str | None = None
    traceback: str | None = None
    is_told: bool = False
    """Whether `error` is our own explanation, so that a terminal need not show the traceback."""


def execute(
    store: Store, job: JobRow, work: Work | None = None, *, log_path: Path | None = None, device: str | None = None
) -> int:
    """Run a queued or claimed job to its end and return the exit code; `work` replaces the work for its kind.

    `device` is what this process took if no queue assigned one.

    Call it only in the main thread. Raises StoreError if the job has ended or belongs to another process.
    """
    me = identity.current()
    start_job(
        store,
        job.id,
        host=me.host,
        boot_id=me.boot_id,
        pid=me.pid,
        pid_started=me.started,
        log_path=str(log_path) if log_path else None,
        device=device,
    )
    os.environ[JOB_VARIABLE] = job.uid  # marks processes that the work starts
    flag = StopFlag()
    with flag.listening():
        with Heartbeat(store, job.id, flag), Machine(store, job.run_id), Progress(store, job.uid):
            outcome = _outcome(replace(store, patience=OUTAGE_SECONDS), job.id, work or _work(job.kind), flag)
        _close(replace(store, patience=OUTAGE_SECONDS), job.id, outcome)
        webhook.send_end(store, job.uid)
    retried = outcome.state == JobState.OUT_OF_MEMORY and launch.retry_with_less_memory(store, job)
    # Nodes of a cluster must not start a worker for this database; the cluster's watcher finds the new job.
    if retried and job.launcher == Launcher.LOCAL:
        launch.ensure_worker(store)
    return outcome.exit_code


def _work(kind: str) -> Work:
    """Return work that imports its module when called, so that a failing import fails the job with its reason."""

    def run(store: Store, job_id: int) -> None:
        import_module("trainer.evaluate.embedding_job" if kind == "embed" else "trainer.train.training").run_job(
            store, job_id
        )

    return run


def _outcome(store: Store, job_id: int, work: Work, flag: StopFlag) -> Outcome:
    try:
        say(store, job_id, "loading the libraries")
        if is_asked_to_stop(store, job_id):
            raise Stopped
        work(store, job_id)
        flag.ignore_signals()
    except Stopped:
        flag.ignore_signals()
        return Outcome(JobState.STOPPED, flag.exit_code)
    except BaseException as error:
        flag.ignore_signals()
        return _failure(error)
    return Outcome(JobState.FINISHED, FINISHED)


def _failure(error: BaseException) -> Outcome:
    kind, sentence = classify(error)
    state = JobState.OUT_OF_MEMORY if kind == "out_of_memory" else JobState.FAILED
    exit_code = {"config": BAD_CONFIG, "disk": NO_DISK, "database": NO_DISK}.get(kind, FAILED)
    is_told = isinstance(error, TrainerError | ConfigError | StoreError)
    return Outcome(state, exit_code, kind, sentence, "".join(traceback.format_exception(error)), is_told)


def _close(store: Store, job_id: int, outcome: Outcome) -> None:
    """Record in the database and in the log how the job ended."""
    try:
        end_job(
            store,
            job_id,
            outcome.state,
            exit_code=outcome.exit_code,
            error_kind=outcome.kind,
            error=outcome.error,
            traceback=outcome.traceback,
        )
    except StoreError as error:
        # The worker or the supervisor will close the job from its exit code.
        _say(f"The end of the job could not be recorded: {error}", sys.stderr)
    if outcome.traceback and not outcome.is_told:
        _say(outcome.traceback, sys.stderr)
    words = outcome.state.value.replace("_", " ")
    _say(f"{words}: {outcome.error}" if outcome.error else words, sys.stdout)


def _say(text: str, stream: TextIO) -> None:
    with suppress(OSError):  # a full disk with the log must not change the exit code
        print(shown(text), file=stream, flush=True)
