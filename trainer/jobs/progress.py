"""A job's progress as lines of text, for its log or a terminal. Read from the database, in a thread of its own."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from types import TracebackType

from store.db.engine import Store, StoreError
from store.jobs import get_job
from store.metrics import read_series
from store.runs import get_run
from store.terminal import shown
from trainer.jobs.activity import BEFORE_TRAINING

LOOK_SECONDS = 1.0
SHOWN = {
    "reward": "reward",
    "reward/format": "format",
    "reward/accuracy": "accuracy",
    "reward/steps": "steps",
    "loss": "loss",
    "val/accuracy": "val accuracy",
    "time/step": "s a step",
}
"""Metrics of a line, in order, with their names there."""


class Progress:
    """While entered, prints a line whenever the job has a new activity or count, or its run a new step."""

    def __init__(self, store: Store, job_uid: str) -> None:
        self.store = store
        self.job_uid = job_uid
        self._said: tuple[int, str | None, int | None] = (0, None, None)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        try:
            job = get_job(self.store, self.job_uid)
            run = get_run(self.store, job.run_id)
            now = (run.step, job.activity, job.done)
            if now == self._said:
                return
            self._said = now
            doing = job.activity
            if doing and job.total and doing not in BEFORE_TRAINING:
                doing = f"{doing}: {job.done:,} of {job.total:,}"
            is_of_steps = job.kind != "embed"
            text = line(self.store, run.id, run.step, run.max_steps, doing) if is_of_steps else doing or ""
        except StoreError as error:
            text = f"Progress cannot be read: {error}"
        with suppress(OSError):  # a closed terminal, or a full disk, must not end the job
            print(shown(text), flush=True)


def line(store: Store, run_id: int, step: int, max_steps: int | None, activity: str | None) -> str:
    """Return a line such as `step 12/170 · training · reward 1.23 · format 0.94`."""
    place = f"step {step}/{max_steps}" if max_steps else None
    found = read_series(store, run_id, SHOWN, lo=step, hi=step)
    values = {name: float(found[name].value[-1]) for name in SHOWN if len(found[name].value)}
    words = [f"{SHOWN[name]} {value:.3g}" for name, value in values.items() if not math.isnan(value)]
    return " · ".join(part for part in (place, activity, *words) if part)
