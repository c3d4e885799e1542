"""A database and real processes beside it; whatever a test leaves running is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.db.engine import Store, open_store
from store.jobs import get_worker, list_jobs
from tests.launch import fake_trainer
from trainer.launch import identity, local
from trainer.launch.identity import Identity


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(local, "command", fake_trainer.command)
    opened = open_store(str(tmp_path / "runs.db"))
    yield opened
    row = get_worker(opened, identity.host())
    if row and identity.is_alive(Identity(row.host, row.boot_id, row.pid, row.pid_started)):
        os.kill(row.pid, signal.SIGKILL)
    for job in list_jobs(opened):
        local.sweep(job.uid)
    opened.close()
