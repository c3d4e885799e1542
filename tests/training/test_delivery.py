"""Records on their way to the database: what it does not take waits on the disk, then in memory, then is counted."""

from __future__ import annotations

import errno
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.db.connection import Refused, StoreError
from store.recording.records import EventRecord, Sampled, StepRecord
from trainer.record import delivery as delivering
from trainer.record import spool as spooling
from trainer.record.delivery import Delivery
from trainer.record.spool import Spool


def step(number: int, **fields: Any) -> StepRecord:
    return StepRecord(step=number, metrics={"loss": number / 2}, at=1.0, **fields)


def sampled(number: int) -> StepRecord:
    return step(number, completions=(Sampled(text="<think>a</think>", row=number, tokens=3),))


def said(message: str) -> EventRecord:
    return EventRecord(kind="note", message=message)


class Away:
    """A place for records that is there or not."""

    def __init__(self) -> None:
        self.taken: list[StepRecord | EventRecord] = []
        self.error: StoreError | None = None

    def put(self, record: StepRecord | EventRecord) -> None:
        if self.error is not None:
            raise self.error
        self.taken.append(record)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes, as if the disk had no more room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "out" / "unwritten-1.jsonl")


def test_where_the_disk_is_full_memory_holds_and_then_the_loss_is_counted(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "RETRY_SECONDS", 0.0)
    place = Away()
    delivery = Delivery(place.put, spool)
    place.error = StoreError("full")
    assert not delivery.take(step(1))
    size = spool.path.stat().st_size
    with full_disk(size + 20):
        with pytest.raises(OSError, match=str(errno.EFBIG)), spool.path.open("ab", buffering=0) as file:
            file.write(b"x" * 21)
            file.write(b"x")
        spool.path.write_bytes(spool.path.read_bytes()[:size])
        for number in range(2, 6):
            assert not delivery.take(step(number))
        assert spool.path.stat().st_size == size, "half a line was left"
        monkeypatch.setattr(spooling, "MOST_BYTES", 2 * size)
        delivery.take(step(6))
    assert spool.lost == 3
    place.error = None
    assert delivery.take(step(7))
    numbers = [record.step for record in place.taken if isinstance(record, StepRecord)]
    assert numbers == [1, 5, 6, 7]
    said = {record.kind: record.message for record in place.taken if isinstance(record, EventRecord)}
    assert said["recording_failed"] == "3 records of the training are missing or incomplete."
    assert said["recording_resumed"] == "3 steps were kept in a file until the database answered."
    assert not spool.is_waiting


def test_what_the_database_will_never_take_holds_nothing_up(spool: Spool) -> None:
    place = Away()
    delivery = Delivery(place.put, spool)
    place.error = Refused("The run no longer exists.")
    assert delivery.take(step(1)) and delivery.take(step(2))
    assert delivery.failures == 2 and not spool.is_waiting


def test_what_was_put_is_not_put_again_when_the_database_goes_away_meanwhile(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "RETRY_SECONDS", 0.0)
    place = Away()
    for number in range(1, 6):
        spool.add(step(number))

    def put(record: StepRecord | EventRecord) -> None:
        if len(place.taken) == 2:
            raise StoreError("away")
        place.taken.append(record)

    delivery = Delivery(put, spool)
    assert not delivery.take(step(6))
    assert [record.step for record in spool.waiting() if isinstance(record, StepRecord)] == [3, 4, 5, 6]


@settings(deadline=None)
@given(cut=st.integers(0, 10_000), more=st.booleans())
def test_a_journal_cut_off_anywhere_loses_one_record_at_most(
    cut: int, more: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / "unwritten-1.jsonl"
    records: list[StepRecord | EventRecord] = [
        sampled(1),
        step(2),
        said("kind"),
        sampled(3),
    ]
    spool = Spool(path)
    for record in records:
        spool.add(record)
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % (len(whole) + 1)])
    complete = path.read_bytes().count(b"\n")
    if more:
        Spool(path).add(step(9))
    found = list(Spool(path).waiting())
    kept = records[:complete] if not more else [*records[:complete], step(9)]
    # A line that lacks only its end is whole.
    assert found in (kept, [*records[: complete + 1], *kept[complete:]])
