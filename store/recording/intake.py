"""Store a journal's records in order, each once, no matter who delivers them and how often.

The database keeps the number of the first record that is missing. A record is stored before that number advances;
storing it twice does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from filelock import FileLock, Timeout
from sqlalchemy import select, update

from store.db import private
from store.db.connection import Refused, Store, StoreError, Unreachable, reading, writing
from store.db.schema import Journal as JournalTable
from store.db.schema import Run
from store.db.sql import upsert
from store.events import insert_event
from store.jobs import hear_job
from store.media import files as media
from store.recording import records
from store.recording.putting import Place, begin, put, put_means
from store.recording.records import Begin, Damaged, Describe, EventRecord, ExampleRecord, Record, StepRecord

TAKE_SECONDS = 1.0
"""Time limit for storing records of one request; the sender then continues with the rest."""
LAZY = (ExampleRecord, StepRecord, Describe)
"""Records that can be stored twice without effect, so that progress need only be noted from time to time."""
DELETED = "The run was deleted in the dashboard, so its records are no longer accepted."
LOCK_SECONDS = 10.0
"""How long a delivery waits for another to end."""


class Gone(StoreError):
    """The run of a journal was deleted."""


class Receipt(NamedTuple):
    """The answer to a delivery."""

    next: int
    """Number of the first record that is not stored yet."""
    stop: int = 0
    """The stop level that was requested of the script."""
    run: str = ""
    """Uid of the run."""
    missing: tuple[str, ...] = ()
    """Hashes of images that are needed before record `next`."""
    ended: str = ""
    """Uid of the job that a record in this delivery ended."""


@dataclass
class _State:
    uid: str
    next: int
    place: Place | None
    ended: str = ""
    noted: int = 0
    """The value of `next` in the database."""
    due: int | None = None
    """A step whose means have to be computed."""
    said_at: float | None = None
    """When the latest record in this delivery was written, if known."""


def take(
    store: Store,
    uid: str,
    first: int,
    lines: Iterable[bytes | str],
    without: frozenset[str] = frozenset(),
    *,
    is_alive: bool = True,
) -> Receipt:
    """Store lines of the journal `uid`: all that it has from number `first` on, or the beginning of these.

    Missing numbers are damaged lines, which are counted as lost. `without` has hashes of images that the journal has
    lost. With `is_alive` this is a heartbeat of the script, even without lines. Raises Damaged if the journal does not
    begin with `begin`, Newer, Gone, or StoreError; earlier records are stored then.
    """
    folder = private.lock_folder(store.folder)
    try:
        with FileLock(folder / "journals.lock", timeout=LOCK_SECONDS, mode=private.FILE):
            state = _state(store, uid)
            missing: tuple[str, ...] = ()
            if first <= state.next:
                try:
                    missing = _take(store, state, lines, without)
                finally:
                    _note(store, state)
            return _answer(store, state, is_alive)._replace(missing=missing)
    except Timeout:
        raise Unreachable(f"{store.where} is busy with another journal. Try again.") from None


def has_image(store: Store, sha256: str) -> bool:
    with suppress(StoreError):
        media.local(store.media, sha256)
        return True
    return False


def next_record_number(store: Store, uid: str) -> int:
    """Return the number of a journal's first record that is not stored yet. Raises Gone."""
    return _state(store, uid).next


def _take(store: Store, state: _State, lines: Iterable[bytes | str], without: frozenset[str]) -> tuple[str, ...]:
    """Store lines up to the first that needs missing images; return the hashes of these images."""
    before, until = state.next, time.monotonic() + TAKE_SECONDS
    for line in lines:
        if state.next > before and time.monotonic() > until:
            break
        if state.place is not None and 0 < (records.number_of(line) or 0) < state.next:
            continue
        try:
            number, record = records.from_line(line)
        except Damaged as error:
            if state.place is None:
                raise
            if (number := records.number_of(line)) is None or number >= state.next:
                _refuse(store, state, f"A record cannot be read ({error}).")
            continue
        number = state.next if number is None else number
        if number < state.next:
            continue
        if number > state.next and state.place is not None:
            _lose(store, state, number - state.next)
        if isinstance(record, ExampleRecord):
            names = [name for name in dict.fromkeys(record.images) if name not in without]
            missing = tuple(name for name in names if not has_image(store, name))
            if missing:
                return missing
            record = record.model_copy(update={"images": tuple(name for name in record.images if name in names)})
        _put(store, state, record)
        state.said_at = getattr(record, "at", None) or state.said_at
    return ()


def _state(store: Store, uid: str) -> _State:
    columns = (JournalTable.next, JournalTable.run_id, JournalTable.job_id)
    with reading(store) as connection:
        row = connection.execute(select(*columns).where(JournalTable.uid == uid)).first()
    if row is None:
        return _State(uid, 0, None)
    if row.run_id is None:
        raise Gone(DELETED)
    return _State(uid, row.next, Place(row.run_id, row.job_id), noted=row.next)


def _put(store: Store, state: _State, record: Record) -> None:
    if isinstance(record, Begin):
        if record.uid != state.uid:
            raise Damaged(f"This is journal {record.uid}, not {state.uid}.")
        state.place = begin(store, record, state.place)
    elif state.place is None:
        raise Damaged("A journal must begin with the record `begin`.")
    else:
        try:
            if isinstance(record, EventRecord):
                _add_event(store, state, record)
                return
            if state.due is not None and not (isinstance(record, StepRecord) and record.step == state.due):
                _note(store, state)
            state.ended = put(store, state.place, record) or state.ended
            if isinstance(record, StepRecord) and record.means:
                state.due = record.step
            if isinstance(record, LAZY):
                state.next += 1
                return
        except Refused as error:
            _check_run(store, state, error)
            _refuse(store, state, f"A record cannot be stored ({error}).")
            return
    _advance(store, state, state.next + 1)


def _note(store: Store, state: _State) -> None:
    """Compute pending means, and save how much of the journal is stored."""
    if state.place is None:
        return
    if state.due is not None:
        put_means(store, state.place, state.due)
        state.due = None
    if state.next != state.noted:
        _advance(store, state, state.next)


def _advance(store: Store, state: _State, number: int) -> None:
    assert state.place is not None
    row = {"run_id": state.place.run_id, "job_id": state.place.job_id, "next": number}
    with writing(store) as connection:
        new = upsert(connection.dialect.name, JournalTable).values(uid=state.uid, **row)
        connection.execute(new.on_conflict_do_update(index_elements=["uid"], set_=row))
    state.next = state.noted = number


def _add_event(store: Store, state: _State, record: EventRecord) -> None:
    """Add a record that must not be stored twice, and save the progress in the same transaction."""
    _note(store, state)
    assert state.place is not None
    place = state.place
    with writing(store) as connection:
        insert_event(connection, place.run_id, record.kind, record.message, job_id=place.job_id, at=record.at)
        moved = update(JournalTable).where(JournalTable.uid == state.uid).values(next=state.next + 1)
        connection.execute(moved)
    state.next += 1
    state.noted = state.next


def _refuse(store: Store, state: _State, why: str) -> None:
    """Skip a record that can never be stored."""
    _add_event(store, state, EventRecord(kind="recording_failed", message=why[:2000]))


def _lose(store: Store, state: _State, count: int) -> None:
    message = f"{count} records were lost because they are damaged in the journal."
    state.next += count - 1
    _add_event(store, state, EventRecord(kind="recording_failed", message=message))


def _check_run(store: Store, state: _State, error: StoreError) -> None:
    """Raise Gone if the run was deleted in the meantime."""
    assert state.place is not None
    with reading(store) as connection:
        if connection.scalar(select(Run.id).where(Run.id == state.place.run_id)) is None:
            raise Gone(DELETED) from error


def _answer(store: Store, state: _State, is_alive: bool) -> Receipt:
    if state.place is None:
        return Receipt(state.next)
    job_id, stop = state.place.job_id, 0
    heard_at = time.time() if is_alive else state.said_at
    if job_id is not None and heard_at is not None and not state.ended:
        # Records read from a folder have no script that could be asked to stop.
        requested_level = hear_job(store, job_id, min(heard_at, time.time()), is_alive=is_alive)
        stop = requested_level if is_alive else 0
    with reading(store) as connection:
        run = connection.scalar(select(Run.uid).where(Run.id == state.place.run_id)) or ""
    return Receipt(state.next, stop, run, ended=state.ended)
