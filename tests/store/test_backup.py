"""A backup is whole whatever is written meanwhile, can be used as it is, and comes back as it was."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from store.care import backup
from store.completions.rows import get_step_bounds, iter_completions
from store.db.connection import StoreError
from store.db.engine import Store, open_store
from store.db.rows import RunRef
from store.db.states import JobState
from store.examples import add_examples, get_examples
from store.jobs import add_job, get_worker, list_jobs, upsert_worker
from store.media import files
from store.metrics import read_clock, read_series
from store.runs import delete_run, list_runs
from store.steps import record_step
from tests.store import make
from tests.store.make import sqlite_only

pytestmark = sqlite_only

WRITER = """
import sys
from store.db.engine import open_store
from store.steps import record_step
from tests.store import make
store = open_store(sys.argv[1])
run = make.run(store, "live")
print("ready", flush=True)
for step in range(1, 100_000):
    rows = [make.completion(0), make.completion(1)]
    record_step(store, run.id, step, {"a": 1.0, "b": 2.0}, at=1.0, completions=rows)
"""


@pytest.fixture
def run(store: Store) -> RunRef:
    run = make.run(store)
    ids = add_examples(store, [make.example(), make.example("b", images=(make.image("blue"),))])
    rows = [make.completion(example_id=ids[0]), make.completion(1, example_id=ids[1])]
    record_step(store, run.id, 1, {"reward": 0.5}, at=1.0, completions=rows)
    return run


def images(store: Store) -> dict[str, bytes]:
    hashes = [sha256 for example in get_examples(store, {1, 2}).values() for sha256 in example.images]
    return {sha256: files.path_of(store.media, sha256).read_bytes() for sha256 in hashes}


def test_a_backup_is_a_database_that_can_be_used_as_it_is(store: Store, run: RunRef, tmp_path: Path) -> None:
    copied = backup.backup(store, tmp_path / "copy")
    assert (copied.images, copied.lost) == (2, 0)
    copy = open_store(str(copied.path), readonly=True)
    assert images(copy) == images(store)
    assert get_step_bounds(copy, run.id) == (1, 1, 1)
    copy.close()


def test_a_backup_made_while_a_process_writes_holds_whole_steps(store: Store, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, store.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        copies = [backup.backup(store, tmp_path / str(number)).path for number in range(5)]
        assert writer.poll() is None
        writer.kill()
    for path in copies:
        copy = open_store(str(path), readonly=True)
        last = read_clock(copy, 1).step.tolist()
        assert {len(curve.step) for curve in read_series(copy, 1, ["a", "b"]).values()} == {len(last)}
        assert sum(1 for _ in iter_completions(copy, 1)) == 2 * len(last)
        copy.close()


def test_a_restored_database_is_what_was_backed_up(store: Store, run: RunRef, tmp_path: Path) -> None:
    before = images(store)
    backup.backup(store, tmp_path / "copy")
    delete_run(store, run.id)
    restored = backup.restore(tmp_path / "copy", f"sqlite:///{tmp_path}/else/where.db")
    assert sorted(path.name for path in restored.path.parent.iterdir()) == ["where-media", "where.db"]
    assert (restored.images, restored.lost) == (2, 0)
    again = open_store(str(restored.path))
    assert images(again) == before
    assert [row.uid for row in list_runs(again)] == [run.uid]
    again.close()


def test_what_ran_when_it_was_backed_up_is_lost_after_a_restore_and_what_waited_waits(
    store: Store, run: RunRef, tmp_path: Path
) -> None:
    make.running_job(store, run.id)
    add_job(store, run.id, "evaluate", {})
    upsert_worker(store, host="here", boot_id=None, pid=7, pid_started=None)
    backup.backup(store, tmp_path / "copy")
    again = open_store(str(backup.restore(tmp_path / "copy", f"sqlite:///{tmp_path}/new.db").path))
    assert [job.state for job in list_jobs(again)] == [JobState.LOST, JobState.QUEUED]
    assert get_worker(again, "here") is None
    again.close()


def test_a_gone_and_a_damaged_image_are_counted(store: Store, run: RunRef, tmp_path: Path) -> None:
    first, second = images(store)
    files.path_of(store.media, first).unlink()
    files.path_of(store.media, second).write_bytes(b"rot")
    copied = backup.backup(store, tmp_path / "copy")
    assert (copied.images, copied.lost) == (0, 2)


def test_nothing_is_overwritten(store: Store, run: RunRef, tmp_path: Path) -> None:
    backup.backup(store, tmp_path / "copy")
    with pytest.raises(StoreError, match="not empty"):
        backup.backup(store, tmp_path / "copy")
    with pytest.raises(StoreError, match=r"already exists. Move it away"):
        backup.restore(tmp_path / "copy", store.url)
    (tmp_path / "new.db-wal").touch()
    with pytest.raises(StoreError, match=r"new\.db-wal already"):
        backup.restore(tmp_path / "copy", f"sqlite:///{tmp_path}/new.db")


@pytest.mark.parametrize("damage", ["newer", "truncated", "none"])
def test_a_backup_that_cannot_be_trusted_is_refused(store: Store, run: RunRef, tmp_path: Path, damage: str) -> None:
    path = backup.backup(store, tmp_path / "copy").path
    if damage == "newer":
        with sqlite3.connect(path) as copy:
            copy.execute("UPDATE alembic_version SET version_num = '0999'")
        copy.close()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    with pytest.raises(StoreError, match=r"newer version|cannot be copied|damaged|has no"):
        backup.restore(tmp_path / "copy", f"sqlite:///{tmp_path}/new/new.db")
    assert not list(tmp_path.glob("new/*"))
