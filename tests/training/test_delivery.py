"""Records on their way to the database: what it does not take waits on the disk, then in memory, then is counted."""

from __future__ import annotations

import errno
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import journal
from store.completions.rows import iter_completions, list_groups
from store.db.connection import Refused, StoreError
from store.db.engine import Store, open_store
from store.db.rows import ExampleRow
from store.journal import Begun, Belongs, Described, Ended, Happened, Process, Record, StepRecord
from store.runs import get_run, list_runs, resolve_run
from tests.store import make
from trainer.record import delivery as delivering
from trainer.record import spool as spooling
from trainer.record.delivery import Delivery
from trainer.record.spool import Spool

RUN = {
    "name": "mine",
    "method": "grpo",
    "style": "cot",
    "grammar": "none",
    "model": "m",
    "dataset": journal.RECORDED,
    "config": {},
    "reward_weights": {"f": 1.0},
    "output_dir": "/out",
}
BEGUN = Begun("0123456789", RUN, Process("here", "boot", 7, 1.0), at=5.0)


def step(number: int, **fields: object) -> StepRecord:
    return StepRecord(number, {"loss": number / 2}, 1.0, None, **fields)  # type: ignore[arg-type]


def sampled(number: int) -> StepRecord:
    example = ExampleRow(
        dataset=journal.RECORDED,
        split="train",
        key=str(number),
        question="?",
        answer=None,
        gold=[1],
        images=(make.image(),),
    )
    return step(number, completions=[make.completion(generation=number)], rows=[{"example": 0}], examples=[example])


class Away:
    """A place for records that is there or not."""

    def __init__(self) -> None:
        self.taken: list[Record] = []
        self.error: StoreError | None = None

    def put(self, record: Record) -> None:
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
    said = {record.kind: record.message for record in place.taken if isinstance(record, Happened)}
    assert said["recording_failed"] == "3 records of the training are lost or incomplete."
    assert said["recording_resumed"] == "3 steps waited in a file until the database answered."
    assert not spool.is_waiting


def test_what_the_database_will_never_take_holds_nothing_up(spool: Spool) -> None:
    place = Away()
    delivery = Delivery(place.put, spool)
    place.error = Refused("The run is gone.")
    assert delivery.take(step(1)) and delivery.take(step(2))
    assert delivery.failures == 2 and not spool.is_waiting


def test_what_was_put_is_not_put_again_when_the_database_goes_away_meanwhile(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "RETRY_SECONDS", 0.0)
    place = Away()
    for number in range(1, 6):
        spool.add(step(number))

    def put(record: Record) -> None:
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
    records: list[Record] = [
        BEGUN,
        sampled(1),
        step(2),
        Described({"style": "direct"}),
        Happened("note", "kind"),
        Ended("finished"),
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


def test_a_journal_becomes_the_run_that_it_tells_of_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "out" / f"unwritten-{BEGUN.uid}.jsonl")
    for record in (
        BEGUN,
        sampled(1),
        sampled(2),
        Described(environment={"summary": {"train_loss": 1}}),
        Ended("finished"),
    ):
        spool.add(record)
    with spool.path.open("a") as file:
        file.write("damaged\n")
    store = open_store(str(tmp_path / "runs.db"))
    copied = spool.path.read_bytes()
    for _ in range(2):  # it was killed after it had put everything
        spool.path.write_bytes(copied)
        assert journal.take_in(store, spool.path.parent) == [journal.Taken(BEGUN.uid, 5, 1)]
    run = get_run(store, resolve_run(store, "mine"))
    assert (run.step, run.grammar, run.created_at, run.environment) == (2, "none", 5.0, {"summary": {"train_loss": 1}})
    assert [row.step for row in iter_completions(store, run.id)] == [1, 2]
    (example,) = (group.example for group in list_groups(store, run.id, 1))
    assert example is not None and (example.gold, len(example.images)) == ([1], 1)
    with pytest.raises(StoreError, match="is no journal and holds none"):
        journal.take_in(store, tmp_path / "out")
    store.close()


def test_the_rest_of_a_run_finds_it(tmp_path: Path, store: Store) -> None:
    target = journal.Target(store)
    target.put(BEGUN)
    target.put(sampled(1))
    spool = Spool(tmp_path / f"unwritten-{target.run_uid}.jsonl", Belongs(target.run_uid))
    spool.add(sampled(2))
    spool.add(Ended("finished"))
    journal.take_in(store, spool.path)
    run = get_run(store, resolve_run(store, "mine"))
    assert (run.status, run.step) == ("finished", 2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(str(tmp_path / "runs.db"))
    yield store
    store.close()


@pytest.mark.parametrize(
    "text", ["", "{}\n", "[1]\n", '{"type": "Begun"}\n', '{"type": "Nothing"}\n', "\0\n", "x" * 50]
)
def test_a_file_that_is_no_journal_is_refused(text: str, tmp_path: Path, store: Store) -> None:
    path = tmp_path / "unwritten-1.jsonl"
    path.write_text(text)
    with pytest.raises(StoreError, match="is no journal"):
        journal.take_in(store, path)
    assert path.exists() and list_runs(store) == []


def test_a_journal_of_a_run_that_is_not_here_names_the_database(tmp_path: Path, store: Store) -> None:
    Spool(tmp_path / "unwritten-1.jsonl", Belongs("nowhere")).add(step(1))
    with pytest.raises(StoreError, match=r"There is no run nowhere in .*: name the database that recorded it"):
        journal.take_in(store, tmp_path / "unwritten-1.jsonl")
