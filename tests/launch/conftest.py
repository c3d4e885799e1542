"""A database and real processes beside it; whatever a test leaves running is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from store import read
from store.engine import Store, open_store
from store.rows import JobRow
from tests.launch import fake_trainer
from trainer import launch
from trainer.config import RunConfig, from_dict
from trainer.launch import identity, local
from trainer.launch.identity import Identity

PATIENCE = 60.0
T = TypeVar("T")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(local, "command", fake_trainer.command)
    opened = open_store(str(tmp_path / "runs.db"))
    yield opened
    for process in psutil.Process().children(recursive=True):
        process.kill()
    row = read.worker(opened, identity.host())
    if row and identity.is_alive(Identity(row.host, row.boot_id, row.pid, row.pid_started)):
        os.kill(row.pid, signal.SIGKILL)
    for job in read.jobs(opened):
        local.sweep(job.uid)
    opened.close()


def doing(act: str) -> RunConfig:
    """A run whose job does one of the acts of `fake_trainer`."""
    return from_dict({"name": act})


def queued(store: Store, act: str) -> str:
    """The uid of a queued job that no worker is told of."""
    return launch.create(store, doing(act))[1].uid


def submitted(store: Store, act: str) -> str:
    launch.submit(store, doing(act))
    return read.jobs(store)[-1].uid


def start_worker(store: Store) -> subprocess.Popen[bytes]:
    """A worker that is this test's own child."""
    environment = os.environ | {"VR1Z_DATABASE_URL": store.url}
    log = local.data_folder(store) / "queue.log"
    with log.open("ab") as stream:
        return subprocess.Popen(
            local.command("queue"), env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )


def eventually(look: Callable[[], T], words: str = "it did not happen") -> T:
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, words
        time.sleep(0.05)
    return found


def until(store: Store, uid: str, *states: str) -> JobRow:
    """The job once it is in one of the states."""

    def look() -> JobRow | None:
        job = read.job(store, uid)
        return job if job.state in states else None

    found = eventually(look, f"job {uid} is {read.job(store, uid)}")
    assert found is not None
    return found


def until_working(store: Store, uid: str) -> JobRow:
    """The job once its work has begun."""
    job = until(store, uid, "running")
    pids = local.output_folder(store, job.run_uid) / "pids"
    eventually(lambda: pids.exists() and pids.read_text().endswith("\n"))
    return job


def ended(store: Store, uid: str) -> JobRow:
    return until(store, uid, "stopped", "finished", "failed", "out_of_memory", "killed", "lost")
