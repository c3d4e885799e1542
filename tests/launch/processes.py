"""Steps of the tests of the launcher: queue something, wait until something is so."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from store.db import ownership
from store.db.engine import URL_VARIABLE, Store
from store.db.rows import JobRow
from store.jobs import get_job, list_jobs
from trainer import launch
from trainer.launch import local
from trainer.spec.config import RunConfig, from_dict

PATIENCE = 120.0
T = TypeVar("T")


def doing(act: str) -> RunConfig:
    """A run whose job does one of the acts of `fake_trainer`."""
    return from_dict({"name": act})


def queued(store: Store, act: str) -> str:
    """The uid of a queued job that no worker is told of."""
    return launch.create(store, doing(act))[1].uid


def submitted(store: Store, act: str) -> str:
    launch.submit(store, doing(act))
    return list_jobs(store)[-1].uid


@contextmanager
def process(store: Store, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m trainer …` as this test's own child, killed at the end."""
    environment = os.environ | {URL_VARIABLE: store.url, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        local.command(*arguments), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def eventually(look: Callable[[], T], words: str = "it did not happen") -> T:
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, words
        time.sleep(0.05)
    return found


def until(store: Store, uid: str, *states: str) -> JobRow:
    """The job once it is in one of the states."""

    def look() -> JobRow | None:
        job = get_job(store, uid)
        return job if job.state in states else None

    found = eventually(look, f"job {uid} is {get_job(store, uid)}")
    assert found is not None
    return found


def until_working(store: Store, uid: str) -> JobRow:
    """The job once its work has begun."""
    job = until(store, uid, "running")
    pids = ownership.folder_of(store, job.run_uid) / "pids"
    eventually(lambda: pids.exists() and pids.read_text().endswith("\n"))
    return job


def ended(store: Store, uid: str) -> JobRow:
    return until(store, uid, "stopped", "finished", "failed", "out_of_memory", "killed", "lost")
