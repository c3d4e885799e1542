"""Print a job's progress, read from the database, as lines for its log or a terminal."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

from store.db.engine import Store, StoreError
from store.jobs import get_job
from store.metrics import read_series
from store.runs import get_run
from store.terminal import shown
from trainer.jobs.activity import BEFORE_TRAINING
from trainer.jobs.repeating import Repeating

LOOK_SECONDS = 1.0
SHOWN = {
    "reward": "reward",
    "reward/format": "format",
    "reward/accuracy": "accuracy",
    "reward/steps": "steps",
    "loss": "loss",
    "val/accuracy": "val accuracy",
    "time/step": "s/step",
}
"""Metrics of a line in order, and their labels."""


class Progress(Repeating):
    """While entered, prints a line whenever the job has a new activity or progress, or its run a new step."""

    def __init__(self, store: Store, job_uid: str) -> None:
        super().__init__(LOOK_SECONDS)
        self.store = store
        self.job_uid = job_uid
        self._last_printed: tuple[int, str | None, int | None] = (0, None, None)

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self.look()

    def look(self) -> None:
        try:
            job = get_job(self.store, self.job_uid)
            run = get_run(self.store, job.run_id)
            now = (run.step, job.activity, job.done)
            if now == self._last_printed:
                return
            self._last_printed = now
            doing = job.activity
            if doing and job.total and doing not in BEFORE_TRAINING:
                doing = f"{doing}: {job.done:,} of {job.total:,}"
            is_of_steps = job.kind != "embed"
            text = line(self.store, run.id, run.step, run.max_steps, doing) if is_of_steps else doing or ""
        except StoreError as error:
            text = f"Progress could not be read: {error}"
        with suppress(OSError):  # a closed terminal or full disk must not end the job
            print(shown(text), flush=True)


def line(store: Store, run_id: int, step: int, max_steps: int | None, activity: str | None) -> str:
    """Return a line such as `step 12/170 · training · reward 1.23 · format 0.94`."""
    place = f"step {step}/{max_steps}" if max_steps else None
    series = read_series(store, run_id, SHOWN, lo=step, hi=step)
    values = {name: float(series[name].value[-1]) for name in SHOWN if len(series[name].value)}
    words = [f"{SHOWN[name]} {value:.3g}" for name, value in values.items() if not math.isnan(value)]
    return " · ".join(part for part in (place, activity, *words) if part)
