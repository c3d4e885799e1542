"""A scene for faults: a database, a real queue, really training the embedded model, and what must hold afterwards.

The witness is a reward of weight 0 that notes each step beside the database, with its own file, as it is scored: what
the database must know, whatever was killed.
"""

from __future__ import annotations

import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from scripts import browsing
from store.completions.rows import list_groups
from store.db.engine import Store, open_store
from store.db.rows import JobRow, RunDetail
from store.jobs import get_job, get_worker, list_jobs
from store.metrics import list_metric_names, read_clock, read_series
from store.runs import get_run
from trainer import launch
from trainer.launch import identity, supervision
from trainer.spec import config

LONG = 10_000
"""Steps of a run that does not end by itself."""
SHOWN_SECONDS = 15.0
"""In which a page must tell the truth again."""
PATIENCE = 600.0
BATCH = 4
SMALL = {
    "optimization.batch_size": str(BATCH),
    "optimization.warmup_steps": "1",
    "grpo.group_size": "2",
    "max_tokens": "8",
    "evaluation.encoder": "''",
    "evaluation.probe_every": "1000",
    "evaluation.probe_examples": "1",
    "evaluation.probe_samples": "0",
    "evaluation.val_every": "10",
    "data.train_examples": "16",
    "data.val_examples": "2",
    "data.test_examples": "0",
}
"""The fastest honest training there is: a fifth of a second a step on one core."""
WITNESS = """
from pathlib import Path

def witness(completions, trainer_state=None, **columns):
    if trainer_state is not None:
        with open(Path(__file__).with_suffix(".txt"), "a") as file:
            file.write(f"{trainer_state.global_step + 1}\\n")
    return [0.0] * len(completions)
"""
T = TypeVar("T")


@dataclass(frozen=True)
class Scene:
    """A folder with a database; its processes are ended by `scene`."""

    folder: Path
    store: Store

    def start(self, steps: int, **settings: str) -> JobRow:
        """Submits a small GRPO run, as the dashboard does; its first job."""
        self._witness.unlink(missing_ok=True)
        (self.folder / "witness.py").write_text(WITNESS)
        named = {f"rewards.{self.folder / 'witness.py'}:witness": "0", "optimization.steps": str(steps)}
        chosen = {name.replace("__", "."): value for name, value in settings.items()}
        run = launch.submit(self.store, config.override(config.preset("shapes-grpo"), SMALL | named | chosen))
        return list_jobs(self.store, run_id=run.id)[-1]

    def resume(self, job: JobRow) -> JobRow:
        self._witness.unlink(missing_ok=True)
        return get_job(self.store, launch.resume(self.store, job.run_id).uid)

    def job(self, job: JobRow) -> JobRow:
        return get_job(self.store, job.uid)

    def run(self, job: JobRow) -> RunDetail:
        return get_run(self.store, job.run_id)

    def until(self, job: JobRow, *states: str, seconds: float = PATIENCE) -> JobRow:
        """The job once it is in one of the states."""
        found = eventually(lambda: (row := self.job(job)).state in states and row, seconds, f"{states}: {job}")
        assert isinstance(found, JobRow)
        return found

    def until_step(self, job: JobRow, step: int) -> JobRow:
        eventually(lambda: self.run(job).step >= step or self.job(job).ended_at, PATIENCE, f"step {step}")
        row = self.job(job)
        assert row.state == "running", row
        return row

    def until_trains(self, job: JobRow) -> JobRow:
        """The job once it has recorded a step of its own."""
        eventually(lambda: self.witnessed() or self.job(job).ended_at, PATIENCE, f"a step of {job}")
        return self.until_step(job, self.witnessed())

    def stopped(self, job: JobRow) -> None:
        """Ends a long run in order, to see that it still obeys."""
        launch.stop(self.store, job)
        self.until(job, "stopped")
        self.has_all_steps(job)
        self.is_whole()

    def finished(self, job: JobRow) -> RunDetail:
        ended = self.until(job, "finished", "stopped", "failed", "out_of_memory", "killed", "lost")
        assert ended.state == "finished", (ended.state, ended.error)
        return self.run(job)

    def witnessed(self) -> int:
        """The step that was scored last; forgotten when a run starts or goes on."""
        return int(self._witness.read_text().split()[-1]) if self._witness.exists() else 0

    @property
    def _witness(self) -> Path:
        return self.folder / "witness.txt"

    def pid_of_worker(self) -> int:
        worker = get_worker(self.store, identity.host())
        assert worker is not None and identity.is_alive(supervision.identity_of(worker))
        return worker.pid

    def is_whole(self) -> None:
        """SQLite finds nothing wrong with the file."""
        connection = sqlite3.connect(self.folder / "runs.db")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()

    def has_all_steps(self, job: JobRow) -> int:
        """Steps 1 to the last are there with all their completions; the last."""
        steps = read_clock(self.store, job.run_id).step.tolist()
        assert steps == list(range(1, len(steps) + 1))
        for step in steps:
            groups = list_groups(self.store, job.run_id, step)
            assert sum(len(group.completions) for group in groups) == BATCH, step
        rewards = read_series(self.store, job.run_id, ["reward"])["reward"]
        assert rewards.step.tolist() == steps and np.isfinite(rewards.value).all()
        return len(steps)

    def curves(self, job: JobRow) -> dict[str, list[float]]:
        """What must not depend on how often a run was interrupted."""
        names = [name for name in list_metric_names(self.store, job.run_id) if is_the_same_again(name)]
        found = read_series(self.store, job.run_id, names)
        return {name: found[name].value.tolist() for name in names}


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """A scene in a folder; all that works on its database is killed at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store(str(folder / "runs.db"))
    try:
        yield Scene(folder, store)
    finally:
        browsing.end_processes(store.url)
        store.close()


def is_the_same_again(name: str) -> bool:
    return "time/" not in name and "per_second" not in name


def answers(server: browsing.Server) -> bool:
    with urllib.request.urlopen(f"{server.url}/api/health", timeout=SHOWN_SECONDS) as answer:
        return bool(answer.status == 200)


def eventually(look: Callable[[], T], seconds: float, words: str) -> T:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {words}"
        time.sleep(0.05)
    return found
