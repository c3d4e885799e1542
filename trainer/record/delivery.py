"""Pass records to the database, or keep them in the spool until it takes them.

It never raises, and every loss is reported.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from store.db.connection import Refused, StoreError
from store.recording.records import EventRecord, StepRecord
from trainer.record.spool import Spool

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
"""Seconds between attempts to reach a database that does not answer, since an attempt may block for long."""


@dataclass
class Delivery:
    """`put` stores a record, or raises StoreError."""

    put: Callable[[StepRecord | EventRecord], object]
    spool: Spool
    failures: int = 0
    """Number of lost records since the last event that reported them, without those that the spool lost."""
    _waited: int = 0
    """Steps that were stored from the spool since the last event that reported them."""
    _try_again_at: float = 0.0
    _said: set[str] = field(default_factory=set)

    def take(self, record: StepRecord | EventRecord) -> bool:
        """Store a record after those that wait; return False if it waits with them."""
        try:
            if time.monotonic() < self._try_again_at:
                self.keep(record)
                return False
            self.catch_up()
            self._put(record)
            self._tell()
        except (StoreError, OSError) as error:
            self._try_again_at = time.monotonic() + RETRY_SECONDS
            self.warn(f"Records of the training wait in {self.spool.path} ({error}); training goes on.")
            self.keep(record)
            return False
        except Exception as error:
            self.lose(error)
        return True

    def keep(self, record: StepRecord | EventRecord) -> None:
        """Leave a record in the spool."""
        lost = self.spool.lost
        try:
            self.spool.add(record)
        except Exception as error:
            self.lose(error)
        if self.spool.lost > lost:
            self.warn(f"{self.spool.path} cannot be written either: the oldest records are lost and counted.")

    def catch_up(self) -> None:
        """Store what waits. Raises StoreError; what was stored by then waits no more."""
        try:
            for record in self.spool.waiting():
                self._put(record)
                self._waited += isinstance(record, StepRecord)
        finally:
            self.spool.forget()

    def settle(self) -> None:
        """Store what waits, and report it. Raises StoreError; then the rest keeps waiting."""
        self.catch_up()
        self._tell()

    def lose(self, error: object) -> None:
        """Count a record that cannot be kept."""
        self.failures += 1
        self.warn(f"Part of the training could not be recorded ({error}); training goes on.")

    def _put(self, record: StepRecord | EventRecord) -> None:
        try:
            self.put(record)
        except Refused as error:
            self.lose(error)

    def _tell(self) -> None:
        """After a successful write, report what waited for it and what was lost."""
        if self._waited:
            text = f"{self._waited} steps waited in a file until the database answered."
            self._say(EventRecord(kind="recording_resumed", message=text))
            self._waited = 0
        lost = self.failures + self.spool.lost
        told = f"{lost} records of the training are lost or incomplete."
        if lost and self._say(EventRecord(kind="recording_failed", message=told)):
            self.failures = self.spool.lost = 0

    def _say(self, event: EventRecord) -> bool:
        """Add an event; return False if its run is gone."""
        try:
            self.put(event)
        except Refused:
            return False
        return True

    def warn(self, text: str) -> None:
        """Warn once for each sentence."""
        if text not in self._said:
            logger.warning(text)
            self._said.add(text)
