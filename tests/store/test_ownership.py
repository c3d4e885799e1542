"""A folder is its run's alone; a database that was copied, by whatever means, is another one; one that moved is not."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from store.care import backup, copying, deletion
from store.db import ownership
from store.db.connection import StoreError
from store.db.engine import Store, open_store
from store.runs import list_runs
from tests import postgres
from tests.store import make
from tests.store.make import sqlite_only


def identity_at(path: Path) -> str:
    with closing(open_store(str(path))) as opened:
        return ownership.identity(opened)


def test_a_new_or_empty_folder_can_be_claimed_once(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert ownership.claim(store, "a", folder) and ownership.claim(store, "a", folder)
    assert not ownership.claim(store, "b", folder)
    assert ownership.owner(folder) == (ownership.identity(store), "a")


def test_a_folder_that_somebody_filled_is_nobodys_to_take(store: Store, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    assert not ownership.claim(store, "a", tmp_path)
    assert not (tmp_path / ownership.NAME).exists()


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"database": "x"}', "\0" * 20, "[" * 5000])
def test_a_damaged_signature_is_nobodys(store: Store, tmp_path: Path, damage: str) -> None:
    (tmp_path / ownership.NAME).write_text(damage)
    assert not ownership.claim(store, "a", tmp_path)


@pytest.mark.parametrize("uid", ["", "..", ".", "../x", "/tmp/x", "a/b", ".hidden", "a\0b"])
def test_an_uid_that_is_a_path_names_no_folder(store: Store, uid: str) -> None:
    with pytest.raises(StoreError, match="not a valid folder name"):
        ownership.folder_of(store, uid)
    assert deletion.folder_of(store, uid) is None


def test_what_lies_at_a_runs_place_already_keeps_it(store: Store) -> None:
    taken = store.folder / "runs" / "abc"
    taken.mkdir(parents=True)
    (taken / "weights").touch()
    own = ownership.folder_of(store, "abc")
    assert own != taken and ownership.claim(store, "abc", own) and ownership.folder_of(store, "abc") == own


@sqlite_only
def test_a_moved_database_stays_the_same(store: Store, tmp_path: Path) -> None:
    before, path = ownership.identity(store), Path(str(store.engine.url.database))
    store.close()
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(path, tmp_path / "elsewhere" / "runs.db")
    assert identity_at(moved) == before
    (tmp_path / "link.db").symlink_to(moved)
    assert identity_at(tmp_path / "link.db") == before == identity_at(moved)


def by_hand(store: Store, folder: Path) -> Path:
    store.engine.dispose()  # folds the log in
    return Path(shutil.copy(str(store.engine.url.database), folder / "copy.db"))


def by_backup(store: Store, folder: Path) -> Path:
    return backup.backup(store, folder / "backup").path


def by_restore(store: Store, folder: Path) -> Path:
    return backup.restore(by_backup(store, folder).parent, f"sqlite:///{folder}/restored.db").path


def by_copy(store: Store, folder: Path) -> Path:
    with closing(open_store(str(folder / "other.db"))) as target:
        copying.copy(store, target)
    return folder / "other.db"


@sqlite_only
@pytest.mark.parametrize("copied", [by_hand, by_backup, by_restore, by_copy])
def test_a_copy_is_another_database(store: Store, tmp_path: Path, copied: Callable[[Store, Path], Path]) -> None:
    run = make.run(store)
    folder = ownership.folder_of(store, run.uid)
    assert ownership.claim(store, run.uid, folder)
    before = ownership.identity(store)
    path = copied(store, tmp_path)
    after = identity_at(path)
    assert before != after == identity_at(path)
    assert ownership.identity(store) == before
    with closing(open_store(str(path))) as copy:
        assert [row.uid for row in list_runs(copy)] == [run.uid]
        assert not ownership.claim(copy, run.uid, folder)
        assert ownership.folder_of(copy, run.uid) != folder
        assert deletion.delete(copy, list_runs(copy)[0].id, run.uid) is None
    assert folder.is_dir()


@sqlite_only
def test_a_backup_put_in_the_place_of_the_database_is_another_one(store: Store, tmp_path: Path) -> None:
    before, path = ownership.identity(store), Path(str(store.engine.url.database))
    made = backup.backup(store, tmp_path / "backup").path
    store.close()
    path.unlink()
    shutil.copy(made, path)
    assert identity_at(path) != before


def test_a_database_that_a_server_restored_from_a_dump_is_another_one(postgres_server: str, tmp_path: Path) -> None:
    with postgres.database(postgres_server) as url:
        with closing(open_store(url)) as store:
            before = ownership.identity(store)
        assert identity_of(url) == before
        with postgres.database(postgres_server, template=url.rpartition("/")[2].partition("?")[0]) as copy:
            assert identity_of(copy) != before == identity_of(url)


def identity_of(url: str) -> str:
    with closing(open_store(url)) as opened:
        return ownership.identity(opened)


@sqlite_only
def test_what_older_versions_made_beside_the_database_is_signed_at_its_upgrade(store: Store, tmp_path: Path) -> None:
    old, other = make.run(store, "old"), make.run(store, "other")
    path = Path(str(store.engine.url.database))
    folder, foreign = path.parent / "runs" / old.uid, tmp_path / "foreign"
    for each in (folder, foreign):
        each.mkdir(parents=True)
        (each / "log.txt").touch()
    store.close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM database")
        database.execute("UPDATE run SET output_dir = ? WHERE uid = ?", (str(folder), old.uid))
        database.execute("UPDATE run SET output_dir = ? WHERE uid = ?", (str(foreign), other.uid))
    with closing(open_store(str(path))) as again:
        assert ownership.owns(again, old.uid, folder)
    assert ownership.owner(foreign) is None
