"""Indexing: what is stored, what is counted, how images are recognised, and what becomes of a process that dies."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.datasets.overlap import LIKELY_COPY
from store.datasets import ask_index, begin_index, count_examples, list_examples, list_indexes, list_pictures
from store.db.engine import Store, StoreError, open_store
from store.db.rows import StoredExample
from store.media.rows import media_path
from tests.datasets import layouts
from trainer import datasets
from trainer.__main__ import main
from trainer.datasets import images, shapes
from trainer.datasets.index import index, origin, phash
from trainer.launch import identity, indexing
from trainer.spec.config import ConfigError, DataConfig
from trainer.spec.errors import TrainerError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(str(tmp_path / "test.db"))
    yield store
    store.close()


@pytest.fixture
def tallyqa(tmp_path: Path) -> DataConfig:
    return DataConfig(dataset="tallyqa", path=str(layouts.tallyqa(tmp_path / "tallyqa")))


def test_an_index_holds_examples_figures_and_hashes(store: Store, tallyqa: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "tallyqa/images/VG_100K/3.jpg").write_bytes(b"no picture")
    tally = index(store, tallyqa, "train", 100)
    (row,) = list_indexes(store)
    assert (row.state, row.dataset, row.split, row.complete) == ("finished", "tallyqa", "train", True)
    assert (row.rows, row.usable, row.images, row.done) == (24, 22, 11, 22)
    assert row.skipped == {images.BROKEN: 2}
    assert row.sizes == {edge: {"min": n, "median": n, "max": n} for edge, n in (("width", 64), ("height", 48))}
    assert tally.usable == count_examples(store, "tallyqa", "train") == 22
    hashed = list_pictures(store, "tallyqa", "train")
    assert sorted(set(hashed.origin.tolist())) == sorted(f"vg:{i}" for i in range(12) if i != 3)
    example = list_examples(store, "tallyqa", "train", limit=1)[0]
    stored = images.decode(media_path(store, example.images[0]).read_bytes())
    assert phash(stored) in hashed.phash[hashed.example_id == example.id].tolist()


def test_the_examples_are_those_of_runs(store: Store, tallyqa: DataConfig) -> None:
    index(store, tallyqa, "train", 100)
    index(store, DataConfig(dataset="shapes-simple"), "val", 20)
    known = {row.name for each in ("train", "val") for row in _all(store, each)}
    assert {example.id for example in datasets.load_role(tallyqa, "val", 10)} <= known
    assert {example.id for example in shapes.examples("simple", "val", 20, 0)} <= known


def _all(store: Store, split: str) -> list[StoredExample]:
    return [row for name in ("tallyqa", "shapes-simple") for row in list_examples(store, name, split, limit=100)]


def test_the_limit_stops_it_and_says_so(store: Store, tallyqa: DataConfig) -> None:
    index(store, tallyqa, "train", 5)
    index(store, tallyqa, "test", 8)
    assert [(row.usable, row.rows, row.complete) for row in list_indexes(store)] == [(8, 8, True), (5, 5, False)]


def test_indexing_again_adds_nothing(store: Store, tallyqa: DataConfig) -> None:
    for _ in range(2):
        index(store, tallyqa, "train", 100)
    assert count_examples(store, "tallyqa", "train") == 24
    assert len(list_indexes(store)) == 1


def test_what_cannot_be_read_is_kept_as_a_sentence(store: Store, tallyqa: DataConfig, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="no split 'val'"):
        index(store, tallyqa, "val", 5)
    (tmp_path / "tallyqa/train.json").write_text("{")
    with pytest.raises(TrainerError, match="not valid JSON"):
        index(store, tallyqa, "train", 5)
    assert [(row.state, row.error.endswith(".")) for row in list_indexes(store) if row.error] == [("failed", True)] * 2


def test_the_command_line_indexes_every_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, db = layouts.tdiuc(tmp_path / "data"), str(tmp_path / "cli.db")
    assert main(["data", "index", "tdiuc", "--path", str(root), "--db", db]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "train: 24 of 36 rows are usable, 12 images",
        "           12  not a counting question",
        "val: 8 of 12 rows are usable, 4 images",
        "            4  not a counting question",
    ]
    assert main(["data", "index", "shapes-hard", "--split", "test", "--limit", "3", "--db", db]) == 0
    assert "stopped at 3" in capsys.readouterr().out
    assert main(["data", "index", "tdiuc", "--path", str(tmp_path / "none"), "--split", "train", "--db", db]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("COCO_train2014_000000000009.jpg", "coco:9"),
        ("val2014/COCO_val2014_000000391895.jpg", "coco:391895"),
        ("VG_100K/107.jpg", "vg:107"),
        ("VG_100K_2/2414761.jpg", "vg:2414761"),
        ("107.jpg", None),
        ("COCO_train2014_².jpg", None),
        ("9f86d081884c7d65", None),
    ],
)
def test_a_file_name_tells_where_an_image_comes_from(name: str, told: str | None) -> None:
    assert origin(name) == told


def photo(seed: int) -> Image.Image:
    """Smooth blots of four sizes: the spectrum of a photo, in which hashes see what they see in photos."""
    rng, size = np.random.default_rng(seed), (320, 240)
    canvas = np.zeros((size[1], size[0], 3))
    for cells, strength in ((3, 1.0), (6, 0.6), (12, 0.4), (40, 0.2)):
        blots = Image.fromarray((rng.random((cells, cells + 1, 3)) * 255).astype(np.uint8))
        canvas += strength * np.asarray(blots.resize(size, Image.Resampling.BICUBIC))
    return Image.fromarray((255 * canvas / canvas.max()).astype(np.uint8))


def recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def cropped(image: Image.Image) -> Image.Image:
    dx, dy = image.width // 100, image.height // 100
    return image.crop((dx, dy, image.width - dx, image.height - dy))


COPIES: dict[str, tuple[Callable[[Image.Image], Image.Image], float]] = {
    "half as large": (lambda image: image.resize((image.width // 2, image.height // 2)), 1.0),
    "JPEG of quality 30": (recompressed, 1.0),
    "grey": (lambda image: image.convert("L").convert("RGB"), 1.0),
    "1 % off each edge": (cropped, 0.9),
}


@pytest.mark.parametrize("name", COPIES)
def test_the_default_threshold_finds_copies(name: str) -> None:
    copy, share = COPIES[name]
    found = [(phash(image) ^ phash(copy(image))).bit_count() <= LIKELY_COPY for image in map(photo, range(40))]
    assert np.mean(found) >= share


def test_the_default_threshold_keeps_different_pictures_apart() -> None:
    hashes = [phash(photo(seed)) for seed in range(60)]
    distances = [(a ^ b).bit_count() for a, b in itertools.combinations(hashes, 2)]
    assert min(distances) > 2 * LIKELY_COPY
    mirrored = photo(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert (hashes[0] ^ phash(mirrored)).bit_count() > LIKELY_COPY  # what the page says that it cannot tell


def wait(store: Store, *states: str) -> str:
    deadline = time.monotonic() + 90
    while (row := list_indexes(store)[0]).state not in states:
        assert time.monotonic() < deadline, row
        time.sleep(0.2)
    return row.state


def test_a_process_of_its_own_indexes(store: Store, tallyqa: DataConfig) -> None:
    indexing.start(store, tallyqa, "train", 10)
    with pytest.raises(StoreError, match="already being indexed"):
        indexing.start(store, tallyqa, "train", 10)
    assert wait(store, "finished", "failed") == "finished"
    assert list_indexes(store)[0].usable == 10
    assert "10 of 10 rows" in indexing.log(store).read_text()
    with pytest.raises(ConfigError, match="the folder"):
        indexing.start(store, tallyqa.model_copy(update={"path": "/nowhere"}), "train", 10)


def test_a_process_that_dies_is_not_shown_as_running(store: Store) -> None:
    code = "import time; print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    who = {"host": identity.host(), "boot_id": identity.boot_id(), "pid": process.pid}
    what = {"name": "countqa", "path": "", "split": "test", "limit": 9}
    begin_index(store, **what, **who, pid_started=identity.start_time(process.pid))
    assert indexing.close_gone(store) == []
    process.kill()
    process.communicate()
    assert indexing.close_gone(store) == ["The process that indexed countqa (test) died."]
    (row,) = list_indexes(store)
    assert row.state == "failed" and "Index the dataset again." in (row.error or "")


def test_a_process_that_never_came_up_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_index(store, name="countqa", path="", split="test", limit=9)
    assert indexing.close_gone(store) == []
    monkeypatch.setattr(indexing, "START_SECONDS", -1.0)
    assert len(indexing.close_gone(store)) == 1
    assert list_indexes(store)[0].state == "failed"


def test_the_command_line_says_why_rows_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layouts.put(tmp_path / "set" / "a.png", layouts.encoded(layouts.picture(1)))
    layouts.put(tmp_path / "set" / "b.png", b"nothing")
    table = "question,answer,image,key\nHow many?,2,a.png,\nHow many?,many,a.png,\nHow many?,1,b.png,\n,1,a.png,mine\n"
    layouts.put(tmp_path / "set" / "examples.csv", table.encode())
    assert main(["data", "index", "folder", "--path", str(tmp_path / "set"), "--db", str(tmp_path / "a.db")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "train: 1 of 4 rows are usable, 1 images",
        "            1  answer is not a whole number (the first is row 2: many)",
        "            1  image cannot be decoded (the first is b.png)",
        "            1  question is blank (the first is mine)",
    ]
