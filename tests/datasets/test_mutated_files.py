"""Dataset files with bytes changed anywhere: each is read, skipped with a reason, or refused with a sentence."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from store.db.connection import StoreError
from store.media import files as media
from tests.datasets import layouts
from tests.datasets.layouts import encoded, picture
from trainer.datasets import images
from trainer.datasets.example import Example
from trainer.datasets.images import PictureError
from trainer.datasets.questions import Skipped
from trainer.datasets.source import open_source
from trainer.spec.config import DataConfig
from trainer.spec.errors import TrainerError

MUTATIONS = 12
KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
JUNK = (b"\x00", b"\xff\xff\xff\xff", b"{", b'"', b"\n", b"-1", b"1e999", b"null", b"../", b"\xed\xa0\x80", b"9" * 30)


class Made(NamedTuple):
    root: Path
    config: DataConfig


@pytest.fixture(scope="module", params=layouts.MAKERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    root = tmp_path_factory.mktemp("sound")
    yield Made(root, layouts.made(request.param, root))


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, cut out, doubled or replaced by what formats stumble over."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(changed) + 1)
        end = at + chance.randint(0, 40)
        changed[at:end] = chance.choice((b"", bytes(changed[at:end]) * 2, chance.choice(JUNK), chance.randbytes(3)))
    return bytes(changed)


def use(config: DataConfig) -> None:
    """Reads all that there is, pictures too; whatever is wrong must come as one of ours."""
    try:
        source = open_source(config).source
        for split in source.splits:
            for row in source.read(split):
                if isinstance(row, Skipped):
                    assert row.reason
                else:
                    look(row)
    except TrainerError as error:
        assert error.kind == "data" and len(error.message) < 1000


def look(row: Example) -> None:
    assert row.answer is None or row.answer >= 0
    try:
        assert all(image.mode == "RGB" for image in row.images)
    except PictureError as error:
        assert error.reason


def test_a_mutated_file_is_read_skipped_or_refused(made: Made, tmp_path: Path) -> None:
    files = sorted(path.relative_to(made.root) for path in made.root.rglob("*") if path.is_file())
    # Pictures are many; the files that say what is in them are few and matter more.
    lists = [path for path in files if path.suffix in (".json", ".jsonl", ".csv", ".parquet")]
    for seed in range(MUTATIONS):
        chance = random.Random(seed)
        root = tmp_path / str(seed)
        shutil.copytree(made.root, root)
        target = root / chance.choice(lists if chance.random() < 0.75 else files)
        target.write_bytes(mutated(target.read_bytes(), chance))
        use(made.config.model_copy(update={"path": str(root)}))
        shutil.rmtree(root)


PICTURES = {kind: encoded(picture(3), kind) for kind in KINDS}


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 2**32))
def test_a_mutated_picture_is_decoded_or_refused_everywhere(kind: str, seed: int) -> None:
    data = mutated(PICTURES[kind], random.Random(seed))
    for use_picture in (images.decode, images.for_store):
        try:
            use_picture(data)
        except PictureError as error:
            assert error.reason.startswith("image ")
    try:
        row = media.inspect(data)
    except StoreError:
        return
    assert row.width * row.height <= media.MOST_PIXELS


def claiming(width: int, height: int) -> bytes:
    """A picture of one colour: millions of pixels in few bytes."""
    return encoded(Image.new("1", (width, height)))


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = claiming(20_000, 20_000)
    assert len(bomb) < 100_000
    with pytest.raises(PictureError, match="too large"):
        images.decode(bomb)
    with pytest.raises(StoreError):
        media.inspect(bomb)


def test_the_largest_photos_are_still_read() -> None:
    found = images.decode(claiming(10_000, 9_999))
    assert (max(found.size), images.original_size(found)) == (images.LONGEST_EDGE, (10_000, 9_999))


def test_a_file_that_is_too_large_is_not_even_read(tmp_path: Path) -> None:
    from trainer.datasets import files

    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(images.MOST_BYTES + 1)
    with pytest.raises(PictureError, match="too large"):
        files.in_folder(tmp_path, "huge.png").load()
