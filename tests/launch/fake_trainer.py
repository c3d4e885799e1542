"""`python -m trainer`, but a run's work is what its name says: real processes, no training."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

from store.db.engine import Store
from store.db.rows import JobRow
from store.jobs import list_jobs
from store.runs import get_run
from store.steps import record_step
from trainer.launch import local, needs, queue, ray_jobs
from trainer.spec.errors import Stopped, TrainerError

IDLE_SECONDS = 1.5


def run_job(store: Store, job_id: int) -> None:
    job = next(job for job in list_jobs(store) if job.id == job_id)
    output = Path(str(get_run(store, job.run_id).output_dir))
    with Path(output, "pids").open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    acts = {
        "finish": lambda: None,
        "wait": lambda: wait(store, job),
        "stuck": lambda: time.sleep(60),
        "deaf": deaf,
        "exit": lambda: os._exit(3),
        "vanish": lambda: os._exit(0),
        "abort": os.abort,
        "fail": lambda: fail(TrainerError("data", "The images are gone. Bring them back.")),
        "bug": lambda: fail(ZeroDivisionError("oh no")),
        "trace": trace,
        "fork": lambda: fork(output),
        "leave": lambda: leave(output),
    }
    print(f"doing {job.run_name}")
    acts[job.run_name]()


def wait(store: Store, job: JobRow) -> NoReturn:
    """Steps of 50 ms until somebody asks it to stop."""
    for step in range(1, 2000):
        time.sleep(0.05)
        if record_step(store, job.run_id, step, {"reward": 1.0}, at=time.time(), job_id=job.id):
            raise Stopped
    raise AssertionError("nobody asked it to stop")


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf now")
    time.sleep(60)


def fail(error: Exception) -> NoReturn:
    raise error


def trace() -> NoReturn:
    print("\x1b[31mTraceback (most recent call last):\x1b[0m\n  File 'x'\nValueError: bad number.\n10 %\r20 %\nbye")
    sys.stdout.flush()
    os._exit(7)


def leave(output: Path) -> None:
    """A descendant that outlives the job."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(output, "child").write_text(str(child.pid))


def fork(output: Path) -> None:
    leave(output)
    time.sleep(60)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.launch.fake_trainer", *arguments]


if __name__ == "__main__":
    from trainer.__main__ import main

    local.command = command
    queue.work = functools.partial(queue.work, idle=IDLE_SECONDS)
    ray_jobs.work = functools.partial(ray_jobs.work, idle=IDLE_SECONDS)
    needs.estimate = lambda config: {"peak": 2**20, "parts": {"weights": 2**19, "runtime": 2**19}}
    sys.modules["trainer.train.training"] = SimpleNamespace(run_job=run_job)  # type: ignore[assignment]
    sys.exit(main())
