"""What a job says of itself between two steps, and the stop that it may find asked for."""

from __future__ import annotations

from store import write
from store.engine import Store
from trainer.errors import Stopped


def say(store: Store, job_id: int, activity: str) -> None:
    """What the process is doing, for whoever watches."""
    write.beat(store, job_id, activity)


def obey(store: Store, job_id: int) -> None:
    """Raises Stopped if the job was asked to stop."""
    if write.beat(store, job_id):
        raise Stopped
