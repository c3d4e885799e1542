"""Job states, their transitions, and launchers. Import them from `store.db.schema`."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"
    LOST = "lost"


class Launcher(StrEnum):
    """What starts a job's process: the worker of a host, or a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


ACTIVE = (JobState.STARTING, JobState.RUNNING, JobState.STOPPING)
OPEN = (JobState.QUEUED, *ACTIVE)
CLOSED = tuple(state for state in JobState if state not in OPEN)
COMES_FROM: dict[JobState, tuple[JobState, ...]] = {
    JobState.STARTING: (JobState.QUEUED,),
    JobState.RUNNING: (JobState.QUEUED, JobState.STARTING),
    JobState.STOPPING: ACTIVE,
    **dict.fromkeys(CLOSED, OPEN),
}
"""The state machine: for each state, the states from which a job may enter it. Only `store.jobs` changes states."""
