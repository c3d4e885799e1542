"""Where the database is, how it is opened, and what is said when it cannot be."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from store.db import connection
from store.db.connection import driver_writing
from store.db.engine import (
    DEFAULT_URL,
    Store,
    StoreError,
    database_url,
    network_file_system,
    open_store,
    reading,
    writing,
)
from store.runs import list_runs
from store.steps import record_step
from tests.store import make
from tests.store.make import sqlite_only


def test_a_path_becomes_an_absolute_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VR1Z_DATABASE_URL", raising=False)
    assert database_url("x.db") == f"sqlite:///{tmp_path}/x.db"
    assert database_url("sqlite:///sub/x.db") == f"sqlite:///{tmp_path}/sub/x.db"
    assert database_url() == f"sqlite:///{tmp_path}/{DEFAULT_URL.removeprefix('sqlite:///')}"


def test_option_beats_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VR1Z_DATABASE_URL", "postgresql://user:secret@host/db")
    assert database_url() == "postgresql://user:secret@host/db"
    assert database_url("/x.db") == "sqlite:////x.db"


def test_a_url_survives_being_handed_to_another_process(tmp_path: Path) -> None:
    odd = tmp_path / "a b%20#?é.db"
    store = open_store(str(odd))
    again = open_store(store.url, readonly=True)
    assert odd.is_file()
    assert make_url(again.url).database == str(odd)
    store.close()
    again.close()


@sqlite_only
def test_images_lie_beside_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    assert store.media == tmp_path / "test-media"
    monkeypatch.setenv("VR1Z_MEDIA", str(tmp_path / "pictures"))
    other = open_store(store.url, readonly=True)
    assert other.media == tmp_path / "pictures"
    other.close()


@sqlite_only
@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 1), ("foreign_keys", 1), ("busy_timeout", 30_000)],
)
def test_writers_use_the_write_ahead_log(store: Store, pragma: str, value: object) -> None:
    with writing(store) as open_:
        assert open_.scalar(text(f"PRAGMA {pragma}")) == value


def test_a_log_that_is_refused_is_an_error() -> None:
    memory = sqlite3.connect(":memory:")
    with pytest.raises(StoreError, match="stays in memory mode"):
        connection.require_log(memory, Path("x.db"))
    memory.close()


@sqlite_only
def test_a_writer_takes_its_lock_at_the_start(store: Store) -> None:
    other = sqlite3.connect(make_url(store.url).database or "", timeout=0)
    with writing(store), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.close()


@sqlite_only
def test_reading_through_a_writers_store_locks_nobody_out(store: Store) -> None:
    other = sqlite3.connect(make_url(store.url).database or "", timeout=0)
    with reading(store) as open_:
        open_.scalar(text("SELECT count(*) FROM run"))
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    other.close()


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), writing(store) as open_:
        open_.execute(text("INSERT INTO metric_name (name) VALUES ('x')"))
        raise RuntimeError
    with reading(store) as open_:
        assert open_.scalar(text("SELECT count(*) FROM metric_name")) == 0


def test_a_read_only_store_cannot_write(reader: Store) -> None:
    with pytest.raises(StoreError, match=r"cannot be written|read-only"):
        make.run(reader)


def test_a_reader_needs_a_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        open_store(str(tmp_path / "none.db"), readonly=True)
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="is empty"):
        open_store(str(tmp_path / "empty.db"), readonly=True)
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("readonly", [False, True])
def test_a_file_that_is_no_database(tmp_path: Path, readonly: bool) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("shopping list " * 100)
    with pytest.raises(StoreError, match="not an SQLite database"):
        open_store(str(path), readonly=readonly)
    assert path.read_text().startswith("shopping list")


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE recipe (x)")
    with pytest.raises(StoreError, match="another program"):
        open_store(str(tmp_path / "other.db"))
    assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("recipe",)]
    other.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Cannot create the folder"):
        open_store(str(tmp_path / "file" / "x.db"))


@sqlite_only
@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_folder_and_a_file_that_may_not_be_written(tmp_path: Path, store: Store) -> None:
    store.close()
    os.chmod(tmp_path / "test.db", 0o444)
    with pytest.raises(StoreError, match="cannot be written"):
        make.run(store)
    os.chmod(tmp_path, 0o555)
    with pytest.raises(StoreError, match="cannot be written"):
        open_store(str(tmp_path / "new.db"))
    os.chmod(tmp_path, 0o755)


@sqlite_only
def test_a_full_disk_costs_only_the_write_that_it_stopped(store: Store) -> None:
    run_id = make.run(store).id
    record_step(store, run_id, 1, {"reward": 1.0}, at=1.0)
    with writing(store) as open_:
        pages = open_.scalar(text("PRAGMA page_count"))
        open_.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="is full, so this write was not stored"):
        record_step(store, run_id, 2, {}, at=2.0, completions=[make.completion(text="x" * 100_000)])
    with writing(store) as open_:
        open_.exec_driver_sql(f"PRAGMA max_page_count = {pages + 1000}")
    record_step(store, run_id, 3, {"reward": 1.0}, at=3.0)
    with reading(store) as open_:
        assert open_.scalars(text("SELECT step FROM step ORDER BY step")).all() == [1, 3]


def test_a_lock_that_never_opens_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0)
    store = open_store(str(tmp_path / "x.db"))
    other = sqlite3.connect(tmp_path / "x.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="is locked by another program"):
        make.run(store)
    other.close()
    store.close()


def test_errors_without_advice_keep_the_drivers_words() -> None:
    assert connection.explain(sqlite3.OperationalError("odd"), "x.db") == "x.db reports: odd"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite://", "in-memory"),
        ("sqlite:///:memory:", "in-memory"),
        ("what://ever", "not supported"),
        ("mysql://host/db", "not supported"),
        ("postgresql://127.0.0.1:1/none", "does not answer. Start the server"),
        ("postgresql+nothing://host/db", "No driver"),
        ("://", "not a database URL"),
    ],
)
def test_unusable_urls(url: str, sentence: str) -> None:
    with pytest.raises(StoreError, match=sentence):
        open_store(url)


def test_a_password_is_never_shown() -> None:
    from sqlalchemy import create_engine

    store = Store("sqlite://", create_engine("sqlite://"), Path())
    secret = Store("postgresql://user:secret@host/db", store.engine, Path())
    assert secret.where == "postgresql://user:[redacted]@host/db"


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:2 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/me/fast\\040disk rw shared:3 - xfs /dev/vdb rw
32 22 0:42 / /mnt/win rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/data", None),
        ("/home/me/project", "nfs4"),
        ("/home/me/fast disk/project", None),
        ("/homework", None),
        ("/mnt/win/x", "cifs"),
    ],
)
def test_network_file_systems_are_recognized(folder: str, kind: str | None) -> None:
    assert network_file_system(Path(folder), MOUNTS) == kind


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.db.engine.network_file_system", lambda folder, mounts: "nfs4")
    with pytest.raises(StoreError, match=r"network file system \(nfs4\)"):
        open_store(str(tmp_path / "x.db"))


@pytest.mark.parametrize("readonly", [False, True])
def test_a_file_that_was_replaced_or_removed_while_it_was_open_is_noticed(tmp_path: Path, readonly: bool) -> None:
    """What is written to it afterwards would be lost with the last process that has it open."""
    open_store(str(tmp_path / "runs.db")).close()
    open_store(str(tmp_path / "other.db")).close()
    with closing(open_store(str(tmp_path / "runs.db"), readonly=readonly)) as store:
        assert list_runs(store) == []
        (tmp_path / "runs.db").rename(tmp_path / "aside.db")
        with pytest.raises(StoreError, match=r"runs\.db was replaced or removed .* Restart this program"):
            list_runs(store)
        shutil.copy(tmp_path / "other.db", tmp_path / "runs.db")
        with pytest.raises(StoreError, match="was replaced or removed"):
            list_runs(store)
        for write_into in (writing, driver_writing):
            with pytest.raises(StoreError, match="was replaced or removed"), write_into(store):
                pass
        os.replace(tmp_path / "aside.db", tmp_path / "runs.db")
        assert list_runs(store) == []
