"""Images in a place that machines share by a URL."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from store import backup, copying, media, orphans, read, write
from store.engine import Store, StoreError, open_store
from tests.store import make

PICTURE = make.image("red")
FETCH = """
import sys
from store import read
from store.engine import open_store
store = open_store(sys.argv[1], readonly=True)
sys.stdout.buffer.write(read.media_path(store, sys.argv[2]).read_bytes())
"""


@pytest.fixture(params=["file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/shared" if request.param == "file" else f"memory://{tmp_path.name}"


@pytest.fixture
def shared(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A database whose images lie in a shared place, with one example."""
    monkeypatch.setenv("VR1Z_MEDIA", place)
    store = open_store(f"sqlite:///{tmp_path}/one/runs.db")
    write.add_examples(store, [make.example(images=(PICTURE,))])
    return store


def sha256_of(store: Store) -> str:
    (example,) = read.examples(store, [1]).values()
    return example.images[0]


def test_an_image_is_fetched_where_it_is_missing_and_kept(shared: Store) -> None:
    sha256 = sha256_of(shared)
    shutil.rmtree(shared.media)
    assert read.media_path(shared, sha256).read_bytes() == PICTURE
    system, root = fsspec.url_to_fs(shared.remote)
    system.rm(root, recursive=True)
    assert read.media_path(shared, sha256).read_bytes() == PICTURE


def test_another_process_with_a_folder_of_its_own_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VR1Z_MEDIA", f"file://{tmp_path}/shared")
    store = open_store(f"sqlite:///{tmp_path}/one/runs.db")
    write.add_examples(store, [make.example(images=(PICTURE,))])
    sha256 = sha256_of(store)
    store.close()
    (tmp_path / "two").mkdir()
    shutil.copyfile(tmp_path / "one/runs.db", tmp_path / "two/runs.db")
    command = [sys.executable, "-c", FETCH, f"sqlite:///{tmp_path}/two/runs.db", sha256]
    assert subprocess.run(command, capture_output=True, check=True).stdout == PICTURE


def test_what_is_there_whole_is_not_written_again_and_half_of_it_is(shared: Store) -> None:
    system, root = fsspec.url_to_fs(shared.remote)
    path = f"{root}/{sha256_of(shared)[:2]}/{sha256_of(shared)}"
    before = system.info(path)
    media.keep(shared, PICTURE)
    assert system.info(path) == before
    system.pipe_file(path, PICTURE[:40])
    media.keep(shared, PICTURE)
    assert system.cat_file(path) == PICTURE


def test_a_damaged_image_is_never_taken_for_the_right_one(shared: Store) -> None:
    sha256 = sha256_of(shared)
    shutil.rmtree(shared.media)
    system, root = fsspec.url_to_fs(shared.remote)
    system.pipe_file(f"{root}/{sha256[:2]}/{sha256}", make.image("blue"))
    with pytest.raises(StoreError, match="is damaged in"):
        read.media_path(shared, sha256)
    assert not media.path_of(shared.media, sha256).exists()


def test_an_image_that_is_nowhere_has_a_place_and_no_file(shared: Store) -> None:
    assert not read.media_path(shared, "0" * 64).exists()


def test_copies_and_backups_hold_images_that_only_the_place_has(shared: Store, tmp_path: Path) -> None:
    sha256 = sha256_of(shared)
    shutil.rmtree(shared.media)
    assert backup.backup(shared, tmp_path / "backup").images == 1
    shutil.rmtree(shared.media)
    target = replace(open_store(f"sqlite:///{tmp_path}/copy.db"), media=tmp_path / "copied", remote=None)
    copying.copy(shared, target)
    assert read.media_path(target, sha256).read_bytes() == PICTURE


def test_a_restored_backup_brings_its_images_to_the_place(shared: Store, tmp_path: Path) -> None:
    backup.backup(shared, tmp_path / "backup")
    system, root = fsspec.url_to_fs(shared.remote)
    system.rm(root, recursive=True)
    backup.restore(tmp_path / "backup", f"sqlite:///{tmp_path}/again/runs.db")
    assert system.cat_file(f"{root}/{sha256_of(shared)[:2]}/{sha256_of(shared)}") == PICTURE


def test_an_image_that_nothing_needs_leaves_the_place_too(shared: Store) -> None:
    sha256 = sha256_of(shared)
    orphans.remove(shared)
    system, root = fsspec.url_to_fs(shared.remote)
    assert not system.exists(f"{root}/{sha256[:2]}/{sha256}")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("s3://key:secret@bucket/images", "must hold no name or password"),
        ("s3://bucket/images", "cannot be opened: Install s3fs"),
        ("nowhere://bucket", "cannot be opened: Protocol not known: nowhere"),
        ("ftp://127.0.0.1:1/images", "cannot be reached"),
    ],
)
def test_a_place_that_cannot_be_used_is_refused_in_a_sentence(
    place: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VR1Z_MEDIA", place)
    with pytest.raises(StoreError, match=words) as refused:
        open_store(f"sqlite:///{tmp_path}/runs.db")
    assert "secret" not in str(refused.value)
