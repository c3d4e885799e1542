"""Pictures of every kind are read as a viewer shows them, or refused with a reason."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.datasets.layouts import encoded, picture
from trainer.datasets import files, images
from trainer.datasets.images import BROKEN, MISSING, OUTSIDE, TOO_LARGE, PictureError, decode, fit, for_store
from trainer.models import loading
from trainer.spec.config import ModelConfig


@pytest.fixture(scope="module")
def processor() -> Any:
    return loading.load_processor(ModelConfig())


def turned(kind: str = "JPEG") -> bytes:
    """A picture of 64 x 48 that EXIF says lies on its side."""
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    return encoded(picture(3), kind, exif=exif)


def grey16() -> bytes:
    return encoded(Image.fromarray(np.full((10, 20), 0x8000, np.uint16)))


def clear() -> bytes:
    """A palette picture, its left half see-through."""
    image = Image.new("P", (20, 10), 1)
    image.putpalette([0, 0, 0, 250, 20, 20])
    image.paste(0, (0, 0, 10, 10))
    return encoded(image, transparency=bytes([0, 255]))


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (12, 8), color) for color in ("blue", "red")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_ordinary_formats_are_read_whole(kind: str) -> None:
    found = decode(encoded(picture(3), kind))
    assert (found.mode, found.size) == ("RGB", (64, 48))
    assert np.abs(np.asarray(found, int) - np.asarray(picture(3), int)).mean() < 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_turned_picture_is_put_upright(kind: str) -> None:
    found = decode(turned(kind))
    assert found.size == (48, 64)
    assert np.abs(np.asarray(found, int) - np.asarray(picture(3).transpose(Image.Transpose.ROTATE_270), int)).mean() < 6


def test_cmyk_keeps_its_colours() -> None:
    found = decode(encoded(Image.new("RGB", (16, 16), (200, 40, 60)).convert("CMYK"), "JPEG"))
    assert np.abs(np.asarray(found, int).mean((0, 1)) - (200, 40, 60)).max() < 12


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    assert np.asarray(decode(grey16())).mean() == 0x80


def test_what_is_see_through_shows_white() -> None:
    found = decode(clear())
    assert (found.getpixel((2, 5)), found.getpixel((15, 5))) == ((255, 255, 255), (250, 20, 20))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    red, _, blue = decode(animated(kind)).getpixel((4, 4))
    assert (red < 20, blue > 235) == (True, True)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGBA", "P"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    assert decode(encoded(picture(2).convert(mode))).mode == "RGB"


def test_exif_that_cannot_be_read_does_no_harm() -> None:
    broken = encoded(picture(1), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(broken).size == (64, 48)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    noise = Image.effect_noise((200, 200), 90).convert("RGB")
    whole = encoded(noise, kind)
    decode(whole)
    with pytest.raises(PictureError, match=BROKEN):
        decode(whole[: len(whole) * 2 // 3])


@pytest.mark.parametrize("data", [b"junk", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(PictureError, match=BROKEN):
        decode(data)


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = encoded(Image.new("1", (3000, 3000)))
    monkeypatch.setattr(images, "MOST_PIXELS", 1_000_000)
    with pytest.raises(PictureError, match=TOO_LARGE):
        decode(bomb)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1), (2, 700), (9000, 3), (5000, 40), (300, 3)])
def test_extreme_pictures_fit_the_processor(processor: Any, size: tuple[int, int]) -> None:
    fitted = fit(Image.new("RGB", size, "red"))
    assert min(fitted.size) >= images.SHORTEST_EDGE
    assert max(fitted.size) / min(fitted.size) <= images.NARROWEST
    pixels = processor.image_processor([[fitted]], return_tensors="np")["pixel_values"]
    assert pixels.shape[:3] == (1, 1, 3)


def test_an_ordinary_picture_is_left_alone() -> None:
    assert fit(picture(0)) == picture(0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_plain_file_is_stored_as_it_is(kind: str) -> None:
    data = encoded(picture(4), kind)
    assert for_store(data) == data


@pytest.mark.parametrize("data", [turned(), grey16(), clear(), animated("GIF"), encoded(picture(1), "BMP")])
def test_other_files_are_stored_as_a_plain_one(data: bytes) -> None:
    stored = for_store(data)
    assert stored != data
    assert for_store(stored) == stored
    assert decode(stored).tobytes() == decode(data).tobytes()


def test_a_large_picture_is_stored_small() -> None:
    with Image.open(io.BytesIO(for_store(encoded(Image.new("RGB", (5000, 2000)), "PNG")))) as stored:
        assert (stored.format, max(stored.size)) == ("JPEG", images.LONGEST_EDGE)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../secret.png", OUTSIDE),
        ("..\\secret.png", OUTSIDE),
        ("photos\\..\\..\\secret.png", OUTSIDE),
        ("photos/../../secret.png", OUTSIDE),
        ("{0}/secret.png", OUTSIDE),
        ("/etc/passwd", OUTSIDE),
        ("link.png", OUTSIDE),
        ("linked/secret.png", OUTSIDE),
        ("\\\\server\\share\\1.jpg", OUTSIDE),
        ("//server/share/1.jpg", OUTSIDE),
        ("C:\\photos\\1.jpg", OUTSIDE),
        ("C:/photos/1.jpg", OUTSIDE),
        ("no.png", MISSING),
        ("photos", MISSING),
        ("a\0b", MISSING),
        ("x" * 5000, MISSING),
        (None, MISSING),
        (3, MISSING),
    ],
)
def test_a_picture_outside_its_folder_is_not_read(tmp_path: Path, name: object, reason: str) -> None:
    (tmp_path / "set/photos").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(encoded(picture(0)))
    (tmp_path / "set/link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "set/linked").symlink_to(tmp_path)
    with pytest.raises(PictureError, match=reason):
        files.in_folder(tmp_path / "set", name.format(tmp_path) if isinstance(name, str) else name).load()


@pytest.mark.parametrize(
    ("on_disk", "in_table"), [("Cafe\u0301.png", "Caf\u00e9.png"), ("Caf\u00e9.png", "Cafe\u0301.png")]
)
def test_an_accent_in_a_path_is_written_in_either_way(tmp_path: Path, on_disk: str, in_table: str) -> None:
    (tmp_path / on_disk).write_bytes(encoded(picture(0)))
    assert files.in_folder(tmp_path, in_table).load() == picture(0)


@pytest.mark.parametrize(
    "name",
    [
        "photos/1.png",
        "photos\\1.png",
        "./photos/1.png",
        ".\\photos\\1.png",
        " photos/1.png ",
        "{0}/photos/1.png",
        "odd\\2.png",
    ],
)
def test_a_path_has_either_slash(tmp_path: Path, name: str) -> None:
    for own in ("photos/1.png", "odd\\2.png"):
        (tmp_path / own).parent.mkdir(exist_ok=True)
        (tmp_path / own).write_bytes(encoded(picture(0)))
    assert files.in_folder(tmp_path, name.format(tmp_path)).load() == picture(0)
