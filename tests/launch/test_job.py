"""A job in this very process: how it reports itself, obeys, and says how it ended."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from store.db.engine import Store, StoreError
from store.db.rows import JobRow
from store.events import list_events
from store.jobs import ask_stop, beat_job, claim_job, get_job, list_jobs
from store.runs import get_run
from store.steps import record_step
from tests.launch.processes import queued
from trainer import launch
from trainer.jobs import heartbeat
from trainer.jobs import job as job_module
from trainer.jobs.job import execute
from trainer.jobs.stopping import StopFlag
from trainer.launch import identity, local
from trainer.spec.config import ConfigError, from_dict
from trainer.spec.errors import Stopped, TrainerError


@pytest.fixture
def job(store: Store, monkeypatch: pytest.MonkeyPatch) -> JobRow:
    monkeypatch.setenv(local.JOB_VARIABLE, "")
    monkeypatch.setattr(heartbeat, "LOOK_SECONDS", 0.02)
    return get_job(store, queued(store, "mine"))


def steps(store: Store, job_id: int, *, at: Callable[[int], None]) -> NoReturn:
    """Training as it should be: after each recorded step it looks whether it should stop."""
    run_id = next(job.run_id for job in list_jobs(store) if job.id == job_id)
    for step in range(1, 500):
        at(step)
        time.sleep(0.02)
        if record_step(store, run_id, step, {"reward": step / 10}, at=time.time(), job_id=job_id):
            raise Stopped
    raise AssertionError("nobody asked it to stop")


def test_a_job_reports_itself_and_finishes(store: Store, job: JobRow, capfd: pytest.CaptureFixture[str]) -> None:
    def work(store: Store, job_id: int) -> None:
        row = get_job(store, job.uid)
        me = identity.current()
        assert (row.state, row.pid, row.pid_started) == ("running", me.pid, me.started)
        assert (row.host, row.boot_id, row.activity) == (me.host, me.boot_id, "loading the libraries")
        assert os.environ[local.JOB_VARIABLE] == job.uid

    before = signal.getsignal(signal.SIGTERM)
    assert execute(store, job, work) == 0
    row = get_job(store, job.uid)
    assert (row.state, row.exit_code, row.error, row.activity) == ("finished", 0, None, None)
    assert signal.getsignal(signal.SIGTERM) == before
    assert capfd.readouterr().out.endswith("finished\n")


@pytest.mark.parametrize(
    ("error", "state", "exit_code", "kind", "sentence"),
    [
        (TrainerError("data", "No images."), "failed", 1, "data", "No images."),
        (ConfigError("seed must be at least 0."), "failed", 2, "config", "seed must be at least 0."),
        (OSError(errno.ENOSPC, "No space left on device"), "failed", 74, "disk", "Could not write to disk"),
        (MemoryError(), "out_of_memory", 1, "out_of_memory", "Out of memory."),
        (ZeroDivisionError("oh"), "failed", 1, "bug", "ZeroDivisionError: oh. This is a bug"),
        (SystemExit(3), "failed", 1, "bug", "SystemExit: 3."),
        (KeyboardInterrupt(), "failed", 1, "bug", "KeyboardInterrupt."),
    ],
)
def test_a_job_says_why_it_failed(
    store: Store,
    job: JobRow,
    capfd: pytest.CaptureFixture[str],
    error: BaseException,
    state: str,
    exit_code: int,
    kind: str,
    sentence: str,
) -> None:
    def work(store: Store, job_id: int) -> None:
        raise error

    assert execute(store, job, work) == exit_code
    row = get_job(store, job.uid)
    assert (row.state, row.exit_code, row.error_kind) == (state, exit_code, kind)
    assert str(row.error).startswith(sentence)
    assert "Traceback" in str(row.traceback) and type(error).__name__ in str(row.traceback)
    assert ("Traceback" in capfd.readouterr().err) == (not isinstance(error, TrainerError | ConfigError))


def test_a_stop_through_the_database_ends_it_after_the_step(store: Store, job: JobRow) -> None:
    def ask(step: int) -> None:
        if step == 3:
            ask_stop(store, job.id, 1)

    assert execute(store, job, lambda s, i: steps(s, i, at=ask)) == 143
    assert get_job(store, job.uid).state == "stopped"
    assert get_run(store, job.run_id).step == 3


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_the_step_finish(
    store: Store, job: JobRow, number: int, exit_code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    def ask(step: int) -> None:
        if step == 2:
            os.kill(os.getpid(), number)

    assert execute(store, job, lambda s, i: steps(s, i, at=ask)) == exit_code
    row = get_job(store, job.uid)
    assert (row.state, row.exit_code, row.stop_requested) == ("stopped", exit_code, 1)
    assert get_run(store, job.run_id).step >= 2
    assert [event.kind for event in list_events(store, job.run_id)][-2:] == ["stop_asked", "stopped"]
    assert "once more to stop at once" in capfd.readouterr().err


def test_a_second_signal_ends_it_at_once(store: Store, job: JobRow) -> None:
    def work(store: Store, job_id: int) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)

    begin = time.monotonic()
    assert execute(store, job, work) == 130
    assert time.monotonic() - begin < 20
    assert get_job(store, job.uid).state == "stopped"


def test_the_second_level_ends_it_at_once(store: Store, job: JobRow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)

    def work(store: Store, job_id: int) -> None:
        ask_stop(store, job_id, 2)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    begin = time.monotonic()
    assert execute(store, job, work) == 143
    assert time.monotonic() - begin < 20


def test_who_finishes_although_asked_to_stop_has_finished(store: Store, job: JobRow) -> None:
    assert execute(store, job, lambda store, job_id: ask_stop(store, job_id, 1)) == 0
    assert get_job(store, job.uid).state == "finished"


def test_a_job_that_was_stopped_while_it_started_does_no_work(store: Store, job: JobRow) -> None:
    assert claim_job(store, identity.host()) is not None
    ask_stop(store, job.id, 1)

    def work(store: Store, job_id: int) -> None:
        raise AssertionError

    assert execute(store, job, work) == 143
    assert get_job(store, job.uid).state == "stopped"


def test_nobody_can_execute_a_job_twice(store: Store, job: JobRow) -> None:
    def work(store: Store, job_id: int) -> None:
        with pytest.raises(StoreError, match="another process"):
            execute(store, job, work)

    assert execute(store, job, work) == 0
    with pytest.raises(StoreError, match="it has ended"):
        execute(store, job, work)


def test_an_end_that_cannot_be_recorded_is_said(
    store: Store, job: JobRow, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise StoreError("The disk is full.")

    monkeypatch.setattr(job_module, "end_job", refuse)
    assert execute(store, job, lambda store, job_id: None) == 0
    assert "The end of the job could not be recorded: The disk is full." in capfd.readouterr().err
    assert get_job(store, job.uid).state == "running"


def test_the_heart_beats_and_never_disturbs(
    store: Store, job: JobRow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    beat, calls = beat_job, []

    def falter(*arguments: Any) -> int:
        calls.append(arguments)
        if len(calls) % 2:
            raise StoreError("locked")
        return beat(*arguments)

    monkeypatch.setattr(heartbeat, "beat_job", falter)
    with heartbeat.Heartbeat(store, job.id, StopFlag(), every=0.01) as heart:
        deadline = time.monotonic() + 20
        while len(calls) < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert heart.failures >= 3
    assert get_job(store, job.uid).heartbeat >= 3
    assert "Heartbeat could not be written (locked; 1 so far). The job continues." in caplog.messages


def test_progress_is_told_in_lines(
    store: Store, job: JobRow, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def work(store: Store, job_id: int) -> None:
        metrics = {"reward": 1.2345, "reward/format": 0.5, "loss": float("nan"), "time/step": None}
        record_step(store, job.run_id, 12, metrics, at=time.time(), job_id=job_id)

    assert execute(store, job, work) == 0
    assert "step 12/170 · training · reward 1.23 · format 0.5\nfinished\n" in capfd.readouterr().out


def test_out_of_memory_is_tried_again_in_smaller_passes_while_there_are_any(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(store: Store, job_id: int) -> None:
        raise MemoryError

    monkeypatch.setattr(launch, "ensure_worker", lambda store: None)
    settings = {"optimization": {"batch_size": 8, "accumulation": 2, "retry_on_oom": True}}
    run, first = launch.create(store, from_dict(settings))
    execute(store, get_job(store, first.uid), work)
    for accumulation in (4, 8):
        *_, retry = list_jobs(store, run_id=run.id)
        assert (retry.state, retry.arguments) == ("queued", {"resume": True, "accumulation": accumulation})
        execute(store, retry, work)
    assert len(list_jobs(store, run_id=run.id)) == 3, "a pass of one sequence cannot be split"
    assert [event.message for event in list_events(store, run.id) if event.kind == "retry"] == [
        "Out of memory: continuing with accumulation 4.",
        "Out of memory: continuing with accumulation 8.",
    ]
    again = launch.add_resume(store, run.id)
    assert get_job(store, again.uid).arguments == {"resume": True, "accumulation": 8}


def test_out_of_memory_is_final_unless_asked_otherwise(store: Store) -> None:
    def work(store: Store, job_id: int) -> None:
        raise MemoryError

    run, job = launch.create(store, from_dict({}))
    execute(store, get_job(store, job.uid), work)
    assert len(list_jobs(store, run_id=run.id)) == 1
