"""Estimate when queued jobs will start, from the durations of earlier runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from app.shared import data, status
from store.db.rows import JobRow, RunRow
from trainer.launch import devices, identity, threads

EVERYTHING = "*"
"""Device of a job that has none of its own."""
PACE_RUNS = 100
"""Number of newest runs whose pace is used."""


class WaitingJob(NamedTuple):
    """A queued job, its position (from 1), and the seconds until it starts (None if unknown)."""

    job: JobRow
    place: int
    starts_in: float | None


def waiting_jobs(now: float) -> list[WaitingJob]:
    """Return the queue in the order in which this host will start its jobs; a cluster has its own queue."""
    jobs = [job for job in data.list_jobs(open_only=True) if job.launcher == "local"]
    queued = [job for job in jobs if job.state == "queued"]
    if not queued:
        return []
    runs = {run.id: run for run in data.list_runs(ids=_relevant_run_ids(jobs))}
    lengths = data.job_lengths()
    active = [job for job in jobs if job.state != "queued"]
    free_in = _free_in(active, runs, lengths, now, places(jobs, runs))
    durations = [_duration(job, runs, lengths) for job in queued]
    widths = [int(job.arguments.get("processes", 1)) for job in queued]
    delays = start_delays(free_in, durations, widths)
    return [WaitingJob(job, i, start) for i, (job, start) in enumerate(zip(queued, delays, strict=True), 1)]


def _relevant_run_ids(jobs: Sequence[JobRow]) -> list[int]:
    """Return the ids of these jobs' runs, and of the newest runs whose pace predicts theirs."""
    return sorted({job.run_id for job in jobs} | {run.id for run in data.list_run_heads()[:PACE_RUNS]})


def start_delays(
    free_in: Sequence[float], durations: Sequence[float | None], widths: Sequence[int] | None = None
) -> list[float | None]:
    """Return the seconds until each queued job starts, in order; `free_in` is infinite if a device's end is unknown.

    `widths` are the numbers of devices that the jobs take, one by default; a job waits until all of them are free.
    """
    free = sorted(free_in)
    waits: list[float | None] = []
    for length, width in zip(durations, widths or [1] * len(durations), strict=True):
        taken, free = free[:width], free[width:]
        start = taken[-1]
        free = sorted([*free, *[math.inf if length is None else start + length] * len(taken)])
        waits.append(start if math.isfinite(start) else None)
    return waits


def places(jobs: Iterable[JobRow], runs: Mapping[int, RunRow]) -> tuple[str, ...]:
    """Return the devices that these jobs may occupy at the same time on this host."""
    models = {runs[job.run_id].model for job in jobs if job.run_id in runs and job.host in (None, identity.host())}
    return devices.places([threads.chosen(model, threads.processors()) for model in models])


def _free_in(
    active: Sequence[JobRow], runs: dict[int, RunRow], lengths: dict[str, float], now: float, here: Sequence[str]
) -> list[float]:
    """Return the seconds until each of the host's devices is free."""
    own_jobs = [job for job in active if job.host == identity.host()]
    left = {
        device: _seconds_left(job, runs, lengths, now)
        for job in own_jobs
        for device in (job.device or EVERYTHING).split(",")
    }
    return [max(left.get(device, 0.0), left.get(EVERYTHING, 0.0)) for device in here]


def _seconds_left(job: JobRow, runs: dict[int, RunRow], lengths: dict[str, float], now: float) -> float:
    if job.kind == "train":
        left = status.seconds_left(runs[job.run_id]) if job.run_id in runs else None
        return math.inf if left is None else left
    expected = lengths.get(job.kind)
    return math.inf if expected is None else max(0.0, expected - (now - (job.started_at or now)))


def _duration(job: JobRow, runs: dict[int, RunRow], lengths: dict[str, float]) -> float | None:
    """Return the seconds that a job will take, judged by similar earlier ones."""
    run = runs.get(job.run_id)
    if job.kind != "train" or run is None:
        return lengths.get(job.kind)
    paces = [
        other.seconds_per_step
        for other in runs.values()
        if other.seconds_per_step and (other.method, other.model, other.dataset) == (run.method, run.model, run.dataset)
    ]
    return median(paces) * max(0, (run.max_steps or 0) - run.step) if paces else None
