"""Write records to the database, or keep them in the spool until the database accepts them.

Delivery never raises, and every loss is reported.
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
"""Seconds between attempts to reach a database that does not answer; each attempt may block for long."""


@dataclass
class Delivery:
    """Delivers records with `put`, which stores a record or raises StoreError."""

    put: Callable[[StepRecord | EventRecord], object]
    spool: Spool
    failures: int = 0
    """Number of records lost since the last event that reported losses, without those that the spool lost."""
    _waited: int = 0
    """Number of steps stored from the spool since the last event that reported them."""
    _try_again_at: float = 0.0
    _warned: set[str] = field(default_factory=set)

    def take(self, record: StepRecord | EventRecord) -> bool:
        """Store a record after those in the spool; return False if it was added to the spool."""
        try:
            if time.monotonic() < self._try_again_at:
                self.keep(record)
                return False
            self.catch_up()
            self._put(record)
            self._report()
        except (StoreError, OSError) as error:
            self._try_again_at = time.monotonic() + RETRY_SECONDS
            self.warn(f"Records are kept in {self.spool.path} for now ({error}); training continues.")
            self.keep(record)
            return False
        except Exception as error:
            self.lose(error)
        return True

    def keep(self, record: StepRecord | EventRecord) -> None:
        """Add a record to the spool."""
        lost_before = self.spool.lost
        try:
            self.spool.add(record)
        except Exception as error:
            self.lose(error)
        if self.spool.lost > lost_before:
            self.warn(f"{self.spool.path} cannot be written either: the oldest records are dropped and counted.")

    def catch_up(self) -> None:
        """Store the records in the spool. Raises StoreError; records stored by then have left the spool."""
        try:
            for record in self.spool.waiting():
                self._put(record)
                self._waited += isinstance(record, StepRecord)
        finally:
            self.spool.forget()

    def settle(self) -> None:
        """Store the records in the spool, and report them. Raises StoreError; the rest then stays in the spool."""
        self.catch_up()
        self._report()

    def lose(self, error: object) -> None:
        """Count a record that cannot be stored or kept."""
        self.failures += 1
        self.warn(f"Something could not be recorded ({error}); training continues.")

    def _put(self, record: StepRecord | EventRecord) -> None:
        try:
            self.put(record)
        except Refused as error:
            self.lose(error)

    def _report(self) -> None:
        """After a successful write, report which records had to wait and which were lost."""
        if self._waited:
            text = f"{self._waited} steps were kept in a file until the database answered."
            self._say(EventRecord(kind="recording_resumed", message=text))
            self._waited = 0
        lost_records = self.failures + self.spool.lost
        message = f"{lost_records} records of the training are missing or incomplete."
        if lost_records and self._say(EventRecord(kind="recording_failed", message=message)):
            self.failures = self.spool.lost = 0

    def _say(self, event: EventRecord) -> bool:
        """Add an event; return False if its run no longer exists."""
        try:
            self.put(event)
        except Refused:
            return False
        return True

    def warn(self, text: str) -> None:
        """Log a warning, once for each text."""
        if text not in self._warned:
            logger.warning(text)
            self._warned.add(text)
