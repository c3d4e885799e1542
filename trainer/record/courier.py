"""A thread that carries the records of a script's run to the database, so that the script waits for neither."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from store.db.connection import StoreError
from store.db.engine import Store, database_url, open_store
from store.journal import Begun, Belongs, Ended, Record, Target
from trainer.jobs.heartbeat import Heartbeat
from trainer.jobs.stopping import StopFlag
from trainer.launch import webhook
from trainer.record.delivery import RETRY_SECONDS, Delivery
from trainer.record.spool import Spool

logger = logging.getLogger(__name__)

BUSY_SECONDS = 1.0
"""Seconds that a write waits for a locked database before its record goes to the journal."""
MOST_QUEUED = 64
"""Records in memory on their way to the thread; further ones go to the disk at once."""


class Courier(threading.Thread):
    """Carries the records of one run. Public methods except `run` may be called from other threads."""

    def __init__(self, begun: Begun, db: str | None, spool: Spool) -> None:
        super().__init__(name="recorder", daemon=True)
        self.begun = begun
        self.spool = spool
        self.delivery = Delivery(self._put, spool)
        self._db = db
        self._store: Store | None = None
        self._target: Target | None = None
        self._heart: Heartbeat | None = None
        self._flag = StopFlag()
        self._queue: queue.Queue[Record | threading.Event] = queue.Queue(MOST_QUEUED)
        self._in_hand: Record | None = None
        self._closed = threading.Event()

    @property
    def stop_requested(self) -> bool:
        return self._flag.level > 0 or (self._target is not None and self._target.stop_requested > 0)

    def take(self, record: Record) -> None:
        """Accept a record at once, whatever the database does."""
        if not self.is_alive() and not self._closed.is_set():
            self.start()
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.delivery.keep(record)

    def open(self, seconds: float) -> None:
        """Open the database before the first record comes; wait for it, `seconds` at most."""
        self.start()
        self.wait(seconds)

    def settle(self, seconds: float) -> None:
        """Wait, `seconds` at most, until everything is stored or on the disk; report where the rest lies."""
        if self.is_alive() and not self.wait(seconds):
            self._leave()
        if self.spool.is_waiting:
            self.delivery.warn(
                f"The database did not take all of the training: the rest waits in {self.spool.path}. Take it in later "
                f"with `python -m store import journal {self.spool.path}`."
            )

    def wait(self, seconds: float) -> bool:
        """Return whether everything has arrived in time."""
        arrived = threading.Event()
        try:
            self._queue.put(arrived, timeout=seconds)
        except queue.Full:
            return False
        return arrived.wait(seconds)

    def close(self, seconds: float) -> None:
        """Close it after the last record."""
        self.settle(seconds)
        self._closed.set()

    def _leave(self) -> None:
        """Write what is on its way to the journal: a record that arrives nevertheless does no harm."""
        if (record := self._in_hand) is not None:
            self.delivery.keep(record)
        while True:
            try:
                left = self._queue.get_nowait()
            except queue.Empty:
                return
            if not isinstance(left, threading.Event):
                self.delivery.keep(left)

    def run(self) -> None:
        self._safely(self._opened)
        while not self._closed.is_set():
            try:
                record = self._queue.get(timeout=RETRY_SECONDS)
            except queue.Empty:
                if self.spool.is_waiting:
                    self._safely(self.delivery.settle)
                continue
            if isinstance(record, threading.Event):
                record.set()
                continue
            self._in_hand = record
            self.delivery.take(record)
            self._in_hand = None
        self._safely(self._hush)

    def _safely(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:
            logger.debug("The recorder goes on (%s).", error)

    def _put(self, record: Record) -> None:
        """Store a record. Raises StoreError."""
        target = self._opened()
        if isinstance(record, Ended):
            self._hush()
        target.put(record)
        if isinstance(record, Begun) and target.job_id is not None:
            self.spool.header = Belongs(target.run_uid)
            self._hush()
            self._heart = Heartbeat(target.store, target.job_id, self._flag).__enter__()
        elif isinstance(record, Ended):
            webhook.tell_end(target.store, target.job_uid)

    def _opened(self) -> Target:
        if self._target is None:
            try:
                self._store = open_store(self._db, busy_seconds=BUSY_SECONDS)
            except StoreError:
                raise
            except Exception as error:
                raise StoreError(f"{database_url(self._db)} cannot be opened ({error}).") from error
            self._target = Target(self._store)
        return self._target

    def _hush(self) -> None:
        heart, self._heart = self._heart, None
        if heart is not None:
            heart.__exit__(None, None, None)
