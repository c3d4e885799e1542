"""What runs record is for one account: folders 0700, files 0600, whatever the umask, and also what was open before."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from store.care import backup
from store.db import private
from store.db.engine import DEFAULT_URL, MEDIA_VARIABLE, StoreError, open_store
from store.db.upgrade import copy_aside
from store.examples import add_examples
from store.media import files
from tests.store import make

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")


@pytest.fixture(autouse=True)
def generous() -> Iterator[None]:
    """A shell whose umask lets everybody read and write."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def open_to_others(folder: Path) -> list[str]:
    return [f"{path.name} {mode(path):o}" for path in (folder, *folder.rglob("*")) if mode(path) & private.UMASK]


def test_a_new_database_its_log_and_its_images_are_for_this_account(tmp_path: Path) -> None:
    with closing(open_store(str(tmp_path / "data/runs.db"))) as store:
        make.run(store)
        add_examples(store, [make.example("a")])
        assert {path.name for path in store.folder.iterdir()} >= {"runs.db", "runs.db-wal", "runs.db-shm", "runs-media"}
        assert open_to_others(tmp_path / "data") == []
        copied = backup.backup(store, tmp_path / "copy")
        backup.restore(tmp_path / "copy", f"sqlite:///{tmp_path}/again/runs.db")
    assert copy_aside(tmp_path / "data/runs.db", "0001").stat().st_size
    for folder in ("data", "copy", "again"):
        assert open_to_others(tmp_path / folder) == []
    assert copied.path.is_file()


def test_what_an_earlier_version_left_open_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store().close()
    data = (tmp_path / DEFAULT_URL.removeprefix("sqlite:///")).parent
    for path in (data, *data.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    open_store(readonly=True).close()
    assert mode(data) == 0o777  # who only reads changes nothing
    open_store().close()
    assert mode(data) == 0o700 and open_to_others(data) == []


def test_a_folder_that_somebody_chose_keeps_its_permissions_and_what_is_in_it_is_closed(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o775)
    (shared / "mine.txt").touch(0o644)
    sqlite3.connect(shared / "runs.db").close()
    (shared / "runs/0123456789").mkdir(parents=True, mode=0o755)
    (shared / "queue.log").touch(0o644)
    open_store(str(shared / "runs.db")).close()
    assert (mode(shared), mode(shared / "mine.txt")) == (0o775, 0o644)
    for name in ("runs.db", "queue.log", "runs/0123456789"):
        assert not mode(shared / name) & private.UMASK


def test_images_in_a_folder_that_is_shared_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "team").mkdir(mode=0o750)
    monkeypatch.setenv(MEDIA_VARIABLE, str(tmp_path / "team"))
    with closing(open_store(str(tmp_path / "data/runs.db"))) as store:
        add_examples(store, [make.example("a")])
        [sha256] = {path.name for path in (tmp_path / "team").glob("??/*")}
        path = files.path_of(tmp_path / "team", sha256)
    assert (mode(path), mode(path.parent)) == (0o640, 0o750)


def test_a_lock_cannot_be_taken_by_another_account(tmp_path: Path) -> None:
    folder = private.lock_folder(tmp_path)
    assert mode(folder) == 0o700
    folder.chmod(0o777)
    assert mode(private.lock_folder(tmp_path)) == 0o700


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives a folder away")
def test_a_lock_folder_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / private.LOCKS).mkdir()
    os.chown(tmp_path / private.LOCKS, 12345, 12345)
    with pytest.raises(StoreError, match="belongs to another user"):
        private.lock_folder(tmp_path)


AT_THE_END = """
import atexit, os, runpy, sys
atexit.register(lambda: print("umask", oct(os.umask(0))))
sys.argv[1:] = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("arguments", "umask"),
    [(("trainer", "machine"), "0o77"), (("app", "--port", "0"), "0o77"), (("trainer", "export", "--help"), "0o0")],
)
def test_the_processes_write_for_this_account_whatever_the_shell_says(arguments: tuple[str, ...], umask: str) -> None:
    """But for what is exported, which is meant for others. (Port 0 is refused after the umask has been set.)"""
    code = AT_THE_END.replace("sys.argv[0]", repr(arguments[0]))
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"umask {umask}\n" in ended.stdout, ended.stderr
