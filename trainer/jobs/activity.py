"""Report what a job is doing between steps, and stop it if that was requested.

If the database does not answer, the job continues; data that must be stored is written elsewhere, and errors are raised
there.
"""

from __future__ import annotations

import logging

from store.db.engine import Store, StoreError
from store.jobs import beat_job
from trainer.jobs import ranks
from trainer.spec.errors import Stopped

logger = logging.getLogger(__name__)


BEFORE_TRAINING = (
    *("loading the libraries", "reading the data", "trying the rewards", "loading the model"),
    *("preparing the training", "making the first update"),
)
"""The activities of a training before its first update, in order."""


def say(store: Store, job_id: int, activity: str, done: int | None = None, total: int | None = None) -> None:
    """Record what the process is doing and, if known, its progress."""
    if activity in BEFORE_TRAINING:
        done, total = BEFORE_TRAINING.index(activity), len(BEFORE_TRAINING)
    _beat(store, job_id, activity, done, total)


def stop_if_asked(store: Store, job_id: int) -> None:
    """Raise Stopped if the job was asked to stop."""
    if is_asked_to_stop(store, job_id):
        raise Stopped


def is_asked_to_stop(store: Store, job_id: int) -> bool:
    return _beat(store, job_id) > 0


def _beat(
    store: Store, job_id: int, activity: str | None = None, done: int | None = None, total: int | None = None
) -> int:
    if not ranks.is_first():
        return 0
    try:
        return beat_job(store, job_id, activity, done, total)
    except StoreError as error:
        logger.warning("%s The job continues.", error)
        return 0
