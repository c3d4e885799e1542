"""Faults of too much at once: many processes on one database, and a machine that gives no more memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from store.db.engine import URL_VARIABLE
from store.events import list_events
from store.jobs import list_jobs
from store.runs import list_runs
from tests.faults.scene import LONG, PATIENCE, SMALL, scene

TRAINERS, READERS, STEPS = 4, 10, 30
READER = """
import sys
import time
from store import events, metrics, runs
from store.completions import rows
from store.db.engine import open_store

store, looks = open_store(sys.argv[1], readonly=True), 0
while True:
    for run in runs.list_runs(store):
        metrics.read_series(store, run.id, metrics.list_metric_names(store, run.id))
        events.list_events(store, run.id)
        bounds = rows.get_step_bounds(store, run.id)
        if bounds:
            rows.list_groups(store, run.id, bounds.last)
    looks += 1
    print(looks, flush=True)
    time.sleep(0.2)
"""
MORE_MEMORY = 8 * 2**20
"""Bytes that a process may still take."""


def crowd(folder: Path, times: int) -> str:
    """Four trainers and ten readers at once, the first of which find no database yet."""
    looks = 0
    settings = [
        part for name, value in (SMALL | {"optimization.steps": str(STEPS)}).items() for part in pair(name, value)
    ]
    for number in range(times):
        database = folder / str(number) / "runs.db"
        environment = os.environ | {URL_VARIABLE: f"sqlite:///{database}"}
        command = [sys.executable, "-m", "trainer", "run", "--preset", "shapes-grpo", *settings]
        trainers = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(TRAINERS)
        ]
        with scene(database.parent) as here:
            reader = [sys.executable, "-c", READER, here.store.url]
            readers = [
                subprocess.Popen(reader, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                for _ in range(READERS)
            ]
            said = [trainer.communicate(timeout=2 * PATIENCE)[0] for trainer in trainers]
            for process in readers:
                assert process.poll() is None, process.communicate()[0]
                process.kill()
            seen = [process.communicate()[0].split() for process in readers]
            assert all(words and all(word.isdigit() for word in words) for words in seen), seen
            looks += sum(map(len, seen))
            assert all(trainer.returncode == 0 for trainer in trainers), said
            assert not any("locked" in words or "could not be recorded" in words for words in said), said
            for job in list_jobs(here.store):
                assert here.has_all_steps(job) == STEPS
                assert not [e for e in list_events(here.store, job.run_id) if e.kind == "recording_failed"]
            assert len(list_runs(here.store)) == TRAINERS
            here.is_whole()
    return f"no lock, no error; all steps of all trainers; {looks} complete readings meanwhile"


def pair(name: str, value: str) -> tuple[str, str]:
    return "--set", f"{name}={value}"


def no_memory(folder: Path, times: int) -> str:
    """Forbids a training process to take more memory."""
    states = set()
    with scene(folder) as here:
        for _ in range(times):
            job, waiting = here.start(LONG), here.start(1)
            row = here.until_trains(job)
            process = psutil.Process(int(row.pid or 0))
            process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + MORE_MEMORY, -1))
            ended = here.until(job, "out_of_memory", "failed", "killed")
            assert ended.state == "out_of_memory", (ended.state, ended.error)
            assert "optimization.accumulation" in str(ended.error)
            states.add(ended.state)
            here.finished(waiting)
        here.is_whole()
    return "shown as out of memory, with what to turn; the next job started"
