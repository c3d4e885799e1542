"""What no run needs is found and removed; what one needs, or may need soon, stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from store.care import orphans
from store.datasets import ask_index, fail_index
from store.db import ownership
from store.db.connection import StoreError, reading
from store.db.engine import Store
from store.examples import add_examples, get_examples
from store.media import files
from store.runs import delete_run, list_runs
from store.steps import record_step
from tests.store import make

OLD = time.time() - 2 * files.SETTLED_SECONDS


def count(store: Store, table: str) -> int:
    with reading(store) as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def old_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (OLD, OLD))
    return path


@pytest.fixture
def used(store: Store) -> str:
    """The hash of the image of an example that a completion is about; another example is nobody's."""
    run = make.run(store)
    rows = [make.example("used"), make.example("unused", images=(make.image("blue"), make.image("red")))]
    ids = add_examples(store, rows)
    record_step(store, run.id, 1, {}, at=1.0, completions=[make.completion(example_id=ids[0])])
    return get_examples(store, {ids[0]})[ids[0]].images[0]


def test_an_example_that_no_answer_is_about_goes_with_the_images_that_only_it_shows(store: Store, used: str) -> None:
    found = orphans.find(store)
    assert (found.examples, found.images, found.files, found.folders) == (1, 1, (), ())
    assert orphans.remove(store) == found
    assert not orphans.find(store).any
    assert (count(store, "example"), count(store, "media")) == (1, 1)
    assert [path.name for path in store.media.glob("*/*")] == [used]


def test_an_indexed_example_stays(store: Store, used: str) -> None:
    index = ask_index(store, name="shapes-simple", path="", split="train", limit=5)
    with reading(store) as connection:
        assert connection.scalar(text("SELECT count(*) FROM dataset_index")) == 1
    fail_index(store, index, "ended")
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE dataset_index SET dataset = 'shapes-simple'"))
    assert orphans.find(store).examples == 0


def test_stray_files_and_folders_go_once_they_are_settled(store: Store, used: str) -> None:
    stray = [old_file(store.media / "aa" / name) for name in (".half", "a" * 64)]
    young = store.media / "aa" / ("b" * 64)
    young.write_bytes(b"a row may come")
    foreign = old_file(store.media / "aa" / "notes.txt")
    gone, known = store.folder / "runs" / "0123456789", store.folder / "runs" / list_runs(store)[0].uid
    for folder in (gone, known):
        assert ownership.claim(store, folder.name, folder)
    other = store.folder / "runs" / "aaaaaaaaaa"
    for folder in (gone, known, other, store.folder / "runs" / "thesis"):
        old_file(folder / "weights.safetensors")
    (other / ownership.NAME).write_text('{"database": "another", "run": "aaaaaaaaaa"}')
    (store.folder / "runs" / "abcdef0123").symlink_to(store.folder / "runs" / "thesis")
    found = orphans.remove(store)
    assert (sorted(file.address for file in found.files), found.folders) == (sorted(map(str, stray)), (gone,))
    assert young.exists() and foreign.exists() and known.exists()
    assert (store.folder / "runs" / "thesis" / "weights.safetensors").exists()
    assert (other / "weights.safetensors").exists()
    assert not gone.exists() and not any(path.exists() for path in stray)


def test_nothing_is_removed_while_a_job_is_at_work(store: Store, used: str) -> None:
    make.running_job(store, make.run(store).id)
    with pytest.raises(StoreError, match="is running"):
        orphans.remove(store)
    assert orphans.find(store).examples == 1


def test_a_deleted_run_leaves_nothing_behind_once_orphans_are_removed(store: Store, used: str) -> None:
    delete_run(store, list_runs(store)[0].id)
    orphans.remove(store)
    left = [table for table in ("completion", "step", "metric", "example", "media", "event") if count(store, table)]
    assert left == []
    assert list(files.path_of(store.media, used).parent.glob("*")) == []
