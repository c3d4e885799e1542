"""Deliver a script's journal directly to a database, without the dashboard."""

from __future__ import annotations

from collections.abc import Sequence

from store.db.connection import StoreError
from store.db.engine import Store, database_url, open_store
from store.media import files as media
from store.recording import intake
from store.recording.intake import Gone
from store.recording.records import Damaged, Newer
from trainer.launch import webhook
from trainer.record.vr1z import DeliveryReply, InvalidRequest, Refused, Unreachable

BUSY_SECONDS = 1.0
"""Seconds to wait for a locked database."""


class Database:
    """Delivers to a database, as `vr1z.Dashboard` does over HTTP. The database is opened at the first delivery."""

    def __init__(self, db: str | None = None) -> None:
        self._db = db
        self._store: Store | None = None

    def page(self, run: str) -> str:
        return f"run {run} of {self._store.where if self._store else database_url(self._db)}"

    def put(
        self, uid: str, first: int, lines: Sequence[bytes], without: Sequence[str] = (), *, is_alive: bool = True
    ) -> DeliveryReply:
        """Store lines of a journal. Raises Away or Refused."""
        try:
            store = self._opened()
            answer = intake.take(store, uid, first, lines, frozenset(without), is_alive=is_alive)
        except (Gone, Damaged, Newer) as error:
            raise Refused(str(error)) from None
        except StoreError as error:
            raise Unreachable(str(error)) from None
        if answer.ended:
            webhook.send_end(store, answer.ended)
        return DeliveryReply(answer.next, answer.stop, answer.run, answer.missing)

    def put_image(self, name: str, data: bytes) -> None:
        """Store an image. Raises Away or Unfit."""
        try:
            media.inspect(data)
        except StoreError as error:
            raise InvalidRequest(str(error)) from None
        try:
            media.save(self._opened().media, data)
        except StoreError as error:
            raise Unreachable(str(error)) from None

    def _opened(self) -> Store:
        if self._store is None:
            try:
                self._store = open_store(self._db, busy_seconds=BUSY_SECONDS)
            except StoreError:
                raise
            except Exception as error:
                raise StoreError(f"{database_url(self._db)} cannot be opened ({error}).") from error
        return self._store
