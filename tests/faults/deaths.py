"""Faults of processes: each function does one thing several times, asserts what must hold, and says what was seen."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import numpy as np

from scripts import browsing
from store.db.rows import JobRow
from tests.faults.scene import LONG, SHOWN_SECONDS, Scene, answers, eventually, scene
from trainer.launch import identity, supervision

STEPS = 60
ROUNDING = 1e-5


def trainer(folder: Path, times: int) -> str:
    """Kills the trainer at a random moment, resumes it, and so on; what ends meanwhile gives way to a new run."""
    with scene(folder / "whole") as undisturbed:
        whole = undisturbed.start(STEPS)
        undisturbed.finished(whole)
        curves, row = undisturbed.curves(whole), undisturbed.job(whole)
    longest = float(row.ended_at or 0) - float(row.started_at or 0)
    waits, lost, ends = [], 0, 0
    with scene(folder / "killed") as here:
        job = here.start(STEPS)
        while len(waits) < times:
            if is_over_before(here, job, random.uniform(0, 0.9 * longest)):
                ends += ended_as(here, job, curves)
                job = here.start(STEPS)
                continue
            waits.append(kill_and_wait(here, job))
            lost = max(lost, here.witnessed() - here.has_all_steps(job))
            assert lost <= 1, "a step that was scored is missing"
            job = here.resume(job)
        ends += ended_as(here, job, curves)
    runs = "it" if ends == 1 else f"each of {ends} runs"
    return (
        f"shown as killed after {max(waits):.1f} s at most; {lost} step in flight lost at most; {runs} ended with the "
        "same curves as one that nobody killed"
    )


def is_over_before(here: Scene, job: JobRow, seconds: float) -> bool:
    """Waits for some time of the job's life; whether it ended by itself meanwhile."""
    here.until(job, "running", "finished")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and here.job(job).state == "running":
        time.sleep(0.02)
    return here.job(job).state == "finished"


def ended_as(here: Scene, job: JobRow, curves: dict[str, list[float]]) -> int:
    here.finished(job)
    assert here.has_all_steps(job) == STEPS
    found = here.curves(job)
    assert found.keys() == curves.keys()
    for name, values in curves.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=ROUNDING, err_msg=name)
    return 1


def kill_and_wait(here: Scene, job: JobRow) -> float:
    """Seconds until a killed trainer is shown as killed, with the database whole."""
    begun = time.monotonic()
    os.kill(int(here.job(job).pid or 0), signal.SIGKILL)
    ended = here.until(job, "killed", seconds=SHOWN_SECONDS)
    waited = time.monotonic() - begun
    assert ended.exit_code == -signal.SIGKILL and "signal 9 (SIGKILL)" in str(ended.error)
    here.is_whole()
    return waited


def dashboard(folder: Path, times: int) -> str:
    """Kills the dashboard while it watches a training that it started."""
    waits, job = [], None
    with scene(folder) as here:
        for _ in range(times):
            with browsing.serving(here.store.url, folder / "server.log") as server:
                job = job or here.start(LONG)
                here.until_trains(job)
                server.process.kill()
            step, begun = here.run(job).step, time.monotonic()
            with browsing.serving(here.store.url, folder / "server.log") as server:
                assert answers(server)
                waits.append(time.monotonic() - begun)
                assert here.until_step(job, step + 2).pid == here.job(job).pid
        assert job is not None
        here.stopped(job)
    return f"training went on each time; the next dashboard answered after {max(waits):.1f} s at most"


def dashboard_and_trainer(folder: Path, times: int) -> str:
    """Kills both at once; the queue lives."""
    waits, job = [], None
    with scene(folder) as here:
        for _ in range(times):
            with browsing.serving(here.store.url, folder / "server.log") as server:
                job = here.start(LONG) if job is None else here.resume(job)
                here.until_trains(job)
                server.process.kill()
                waits.append(kill_and_wait(here, job))
        assert job is not None
        job = here.resume(job)
        here.until_trains(job)
        here.stopped(job)
    return f"shown as killed after {max(waits):.1f} s at most; resumed each time"


def everything(folder: Path, times: int) -> str:
    """Kills dashboard, queue and trainer at once, as a power cut would without the reboot."""
    waits, job = [], None
    with scene(folder) as here:
        for _ in range(times):
            with browsing.serving(here.store.url, folder / "server.log") as server:
                job = here.start(LONG) if job is None else here.resume(job)
                row = here.until_trains(job)
                for pid in (here.pid_of_worker(), int(row.pid or 0), server.process.pid):
                    os.kill(pid, signal.SIGKILL)
            with browsing.serving(here.store.url, folder / "server.log"):
                begun = time.monotonic()
                ended = here.until(job, "lost", seconds=SHOWN_SECONDS)
                waits.append(time.monotonic() - begun)
            assert "died without an error message" in str(ended.error)
            here.is_whole()
        assert job is not None
        job = here.resume(job)
        here.until_trains(job)
        here.stopped(job)
    return (
        f"shown as lost {max(waits):.1f} s at most after the next dashboard was up (who could have seen the signal "
        "was killed, too); resumed each time"
    )


def worker(folder: Path, times: int) -> str:
    """Kills the queue's process while it has a job and another waits."""
    with scene(folder) as here, browsing.serving(here.store.url, folder / "server.log"):
        for _ in range(times):
            job, waiting = here.start(LONG), here.start(1)
            row = here.until_trains(job)
            victim = here.pid_of_worker()
            os.kill(victim, signal.SIGKILL)
            eventually(lambda gone=victim: has_other_worker(here, gone), SHOWN_SECONDS, "another worker")
            assert here.job(job).pid == row.pid
            here.stopped(job)
            here.finished(waiting)
    return "its job went on in the same process; another queue adopted it within 15 s and started the next"


def has_other_worker(here: Scene, pid: int) -> bool:
    return supervision.worker_lives(here.store) and here.pid_of_worker() != pid


def frozen_worker(folder: Path, times: int) -> str:
    """Freezes the queue's process (SIGSTOP): it lives, and does nothing."""
    seconds = supervision.FROZEN_SECONDS + 2 * SHOWN_SECONDS
    with scene(folder) as here, browsing.serving(here.store.url, folder / "server.log"):
        for _ in range(times):
            job = here.start(LONG)
            row = here.until_trains(job)
            victim = here.pid_of_worker()
            os.kill(victim, signal.SIGSTOP)
            begun = time.monotonic()
            eventually(lambda gone=victim: identity.start_time(gone) is None, seconds, "the end of a frozen worker")
            waited = time.monotonic() - begun
            assert here.job(job).pid == row.pid
            here.stopped(job)
    return f"replaced after {waited:.0f} s; its job went on"
