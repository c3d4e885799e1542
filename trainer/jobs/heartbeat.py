"""Write a job's heartbeat to the database, and learn of requested stops.

It never raises into the job: a heartbeat that cannot be written is counted and tried again.
"""

from __future__ import annotations

import logging
import time

from store.db.engine import Store
from store.jobs import ask_stop, beat_job
from trainer.jobs.repeating import Repeating
from trainer.jobs.stopping import StopFlag

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
LOOK_SECONDS = 0.25
"""Most seconds until a signal is recorded in the database."""


class Heartbeat(Repeating):
    """Writes heartbeats while entered. The thread uses its own connection from the store's pool."""

    def __init__(self, store: Store, job_id: int, flag: StopFlag, *, every: float = BEAT_SECONDS) -> None:
        super().__init__(min(LOOK_SECONDS, every))
        self.store = store
        self.job_id = job_id
        self.flag = flag
        self.every = every
        self.failures = 0
        self._last_level = 0
        self._beaten = 0.0

    def look(self) -> None:
        is_news = self.flag.level > self._last_level
        if is_news or time.monotonic() - self._beaten >= self.every:
            self._beaten = time.monotonic()
            self._beat()

    def _beat(self) -> None:
        self._last_level = self.flag.level
        try:
            level = beat_job(self.store, self.job_id)
            if self.flag.level > level:
                ask_stop(self.store, self.job_id, self.flag.level)
        except Exception as error:
            self.failures += 1
            logger.warning("Heartbeat could not be written (%s; %d so far). The job continues.", error, self.failures)
            return
        self.flag.ask(level)
