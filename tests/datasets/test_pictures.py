"""A picture is one thing however it comes: modes, files, arrays, cells; what is not read is called by its name."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Array3D, Dataset, Features, List
from datasets import Image as ImageFeature
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageMode

from tests.datasets.layouts import encoded, picture
from trainer.datasets import images
from trainer.datasets.images import PictureError, decode
from trainer.datasets.pictures import WEB, for_store, pictures, several

ROOT = Path(__file__).resolve().parents[2]
WIDE = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2"}


def ramp(width: int = 48, height: int = 32) -> Image.Image:
    """Grey, dark on the left."""
    return Image.fromarray(np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1)))


def in_mode(mode: str) -> Image.Image:
    """The ramp in a mode of Pillow."""
    grey = ramp()
    if mode in WIDE:
        values = (np.asarray(grey).astype(np.uint16) * 257).astype(WIDE[mode])
        return Image.frombytes(mode, grey.size, values.tobytes(), "raw", mode)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        found = ImageCms.profileToProfile(grey.convert("RGB"), srgb, lab, outputMode="LAB")
        assert found is not None
        return found
    through = {"La": "LA", "RGBa": "RGBA", "PA": "P", "HSV": "RGB", "YCbCr": "RGB", "RGBX": "RGB", "CMYK": "RGB"}
    return grey.convert(through.get(mode, mode)).convert(mode)


def modes() -> list[str]:
    """Those of the installed Pillow that a picture can be made in."""
    known = [mode for mode in Image.MODES if mode not in WIDE] + list(WIDE) + ["La", "PA", "RGBX", "RGBa"]
    return [mode for mode in dict.fromkeys(known) if ImageMode.getmode(mode)]


def difference(found: Image.Image, expected: Image.Image) -> float:
    assert (found.mode, found.size) == ("RGB", expected.size)
    return float(np.abs(np.asarray(found, int) - np.asarray(expected.convert("RGB"), int)).mean())


@pytest.mark.parametrize("mode", modes())
def test_every_mode_of_pillow_shows_the_same(mode: str) -> None:
    # One bit a pixel keeps the mean of the picture, not its pixels.
    found = decode(in_mode(mode))
    if mode == "1":
        assert abs(np.asarray(found).mean() - np.asarray(ramp()).mean()) < 8
    else:
        assert difference(found, ramp()) < 3


def files() -> list[tuple[str, str]]:
    """Each format that is read with each mode that Pillow writes in it."""
    found = []
    for kind in (*images.FORMATS, "MPO"):
        for mode in modes():
            if kind in ("WEBP", "GIF", "AVIF") and mode in WIDE:
                # Pillow writes these white.
                continue
            try:
                encoded(in_mode(mode), kind)
            except (OSError, KeyError, ValueError):
                continue
            found.append((kind, mode))
    return found


@pytest.mark.parametrize(("kind", "mode"), files())
def test_every_file_that_pillow_writes_shows_the_same(kind: str, mode: str) -> None:
    data = encoded(in_mode(mode), kind)
    found = decode(data)
    assert found == decode(Image.open(io.BytesIO(data)))
    if mode != "1":
        assert difference(found, ramp()) < 6


def test_the_table_of_files_covers_what_people_have() -> None:
    expected = {("PNG", "I;16"), ("TIFF", "F"), ("TIFF", "I;16B"), ("TIFF", "LAB"), ("TIFF", "CMYK"), ("JPEG", "CMYK")}
    assert expected | {("AVIF", "RGBA"), ("WEBP", "RGBA"), ("PPM", "1"), ("BMP", "P"), ("GIF", "P")} <= set(files())


FORMS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "BytesIO, read": lambda path: _read(io.BytesIO(path.read_bytes())),
    "open file": lambda path: io.BufferedReader(io.BytesIO(path.read_bytes())),  # type: ignore[arg-type]
    "Path": lambda path: path,
    "text": str,
    "name": lambda path: path.name,
    "cell": lambda path: {"bytes": path.read_bytes(), "path": None},
    "cell, path of another machine": lambda path: {"bytes": path.read_bytes(), "path": "/home/else/1.png"},
    "cell, path": lambda path: {"bytes": None, "path": path.name},
    "cell, path only": lambda path: {"path": str(path)},
    "PIL": lambda path: Image.open(io.BytesIO(path.read_bytes())),
    "PIL, loaded": lambda path: _loaded(Image.open(io.BytesIO(path.read_bytes()))),
    "list": lambda path: [path.name],
    "tuple": lambda path: (path.read_bytes(),),
    "object array": lambda path: np.array([{"bytes": path.read_bytes(), "path": None}], dtype=object),
    "text array": lambda path: np.array([path.name]),
    "JSON": lambda path: f'["{path.name}"]',
    "Python's list as text": lambda path: f"['{path.name}']",
    "Python's cell as text": lambda path: str({"bytes": path.read_bytes(), "path": None}),
    "array of one text": lambda path: np.array(path.name),
    "data address": lambda path: f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}",
    "data address in lines": lambda path: f"data:;base64,{base64.encodebytes(path.read_bytes()).decode()}",
    "data address with more": lambda path: (
        f"DATA:image/png;charset=utf-8;base64,{base64.b64encode(path.read_bytes()).decode()}"
    ),
    "base64": lambda path: base64.b64encode(path.read_bytes()).decode(),
}


def _read(file: io.BytesIO) -> io.BytesIO:
    file.read()
    return file


def _loaded(image: Image.Image) -> Image.Image:
    image.load()
    return image


SAMPLES = {
    "a phone's photo": lambda: encoded(ramp().convert("RGB"), "JPEG", exif=_turned()),
    "16 bits": lambda: encoded(in_mode("I;16")),
    "see-through": lambda: encoded(_see_through()),
    "palette": lambda: encoded(_see_through().convert("P"), transparency=0),
    "animation": lambda: encoded(ramp(), "GIF", save_all=True, append_images=[Image.new("L", (48, 32), 9)]),
    "TIFF on its side": lambda: encoded(ramp(), "TIFF", tiffinfo={images.ORIENTATION: 8}),
}


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    return exif


def _see_through() -> Image.Image:
    image = Image.new("RGBA", (48, 32), (0, 0, 0, 0))
    image.paste((200, 0, 0, 255), (10, 10, 20, 20))
    return image


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_a_picture_is_the_same_however_it_comes(form: str, sample: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(SAMPLES[sample]())
    [found] = pictures(FORMS[form](path), (tmp_path,))
    assert found.load() == decode(path)
    assert decode(found.encoded()).size == decode(path).size


def test_sides_are_right() -> None:
    for name in ("a phone's photo", "TIFF on its side"):
        found = np.asarray(decode(SAMPLES[name]()), int)
        assert found.shape == (48, 32, 3)
        upper, lower = found[:8].mean(), found[-8:].mean()
        assert (upper < lower) == (name == "a phone's photo")


COLOUR = np.asarray(picture(3))
ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "uint8": COLOUR,
    "channels first": np.moveaxis(COLOUR, 2, 0),
    "batch of one": COLOUR[None],
    "int64": COLOUR.astype(np.int64),
    "uint16": COLOUR.astype(np.uint16) * 257,
    "float to 1": COLOUR / 255,
    "float16 to 1": (COLOUR / 255).astype(np.float16),
    "float32 to 255": COLOUR.astype(np.float32),
    "big-endian": (COLOUR / 255).astype(">f4"),
    "alpha": np.dstack([COLOUR, np.full(COLOUR.shape[:2], 255, np.uint8)]),
    "not contiguous": np.asarray(picture(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT))[:, ::-1],
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("kind", ["numpy", "torch", "lists"])
def test_arrays_are_pictures(name: str, kind: str) -> None:
    import torch

    values: Any = ARRAYS[name]
    if kind == "torch":
        native = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("=")))
        values = torch.from_numpy(native).requires_grad_(native.dtype.kind == "f")
    if kind == "lists" and name in ("uint16", "batch of one"):
        pytest.skip("Lists tell neither 16 bits from more nor one picture from several.")
    values = values.tolist() if kind == "lists" else values
    [found] = pictures(values, ())
    assert difference(found.load(), picture(3)) < 0.6


def test_a_bfloat16_tensor_is_a_picture() -> None:
    import torch

    [found] = pictures(torch.from_numpy(COLOUR.copy()).permute(2, 0, 1).to(torch.bfloat16) / 255, ())
    assert difference(found.load(), picture(3)) < 2


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        (np.full((8, 8), True), 255),
        (np.full((8, 8), 0x8000, np.uint16), 128),
        (np.full((8, 8, 1), 0x8000, np.int32), 128),
        (np.full((8, 8), 0.5), 128),
        (np.full((8, 8), 0.5, np.float32), 128),
        (np.array([[-4000.0, 4000.0]] * 8), 127.5),
        (np.array([[np.nan, 1.0]] * 8), 127.5),
        (np.array([[0, 1_000_000]] * 8), 127.5),
        (np.dstack([np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)]), 255),
    ],
)
def test_values_of_one_channel_are_scaled(values: np.ndarray[Any, Any], mean: float) -> None:
    [found] = pictures(values, ())
    assert np.asarray(found.load()).mean() == pytest.approx(mean)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([None, 3, 4]), st.integers(0, 2**32 - 1))
def test_any_array_of_bytes_is_what_pillow_says(height: int, width: int, channels: int | None, seed: int) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    [found] = pictures(values, ())
    expected = Image.fromarray(values)
    if channels == 4:
        expected = Image.alpha_composite(Image.new("RGBA", expected.size, "white"), expected)
    assert found.load() == expected.convert("RGB")


def test_a_stack_of_arrays_is_several_pictures() -> None:
    import torch

    stack = np.stack([COLOUR, COLOUR[::-1]])
    assert len(several(stack)) == len(several(torch.from_numpy(stack.copy()))) == len(several(list(stack))) == 2
    assert len(several(stack.tolist())) == 2 and several([stack[0].tolist()]) == [stack[0].tolist()]
    [first, second] = pictures(stack.tolist(), ())
    assert (first.load().size, second.load().size) == (COLOUR.shape[1::-1], COLOUR.shape[1::-1])


@pytest.mark.parametrize(
    "cell", [None, float("nan"), "", " ", "nan", "null", [], [None], "[]", np.array([], dtype=object)]
)
def test_an_absent_cell_is_no_picture(cell: object) -> None:
    assert pictures(cell, ()) == ()


def gone() -> io.BytesIO:
    file = io.BytesIO(b"x")
    file.close()
    return file


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (3, "image is of type int: use a path, bytes, a PIL image or an array"),
        (object(), "image is of type object"),
        ({"url": "x"}, images.MISSING),
        ({"bytes": None, "path": None}, images.MISSING),
        ("https://example.org/1.jpg", WEB),
        ("data:image/png;base64,%%%", images.BROKEN),
        ("iVBORw0KGgo" + "A" * 90 + "%", images.BROKEN),
        (gone(), "image is a closed file"),
        (io.StringIO("x"), "image is a text file"),
        (np.zeros(5), "image is an array of 5: use height x width, with 1 to 4 channels first or last"),
        (np.zeros((5, 5, 7)), "image is an array of 5 x 5 x 7"),
        (np.zeros((0, 5)), "image is an array of 0 x 5"),
        (np.full((5, 5, 3), -2.5), "image is an array of values from -2.5 to -2.5: use 0 to 1, or 0 to 255"),
        (np.zeros((5, 5), complex), "image is an array of complex128: use numbers"),
        (b"", "image is empty: download it again"),
    ],
)
def test_what_is_no_picture_is_called_by_its_type(given: object, reason: str, tmp_path: Path) -> None:
    [found] = pictures(given, (tmp_path,))
    with pytest.raises(PictureError) as caught:
        found.load()
    assert caught.value.reason.startswith(reason)


def test_a_dataset_is_read_row_by_row(tmp_path: Path) -> None:
    from trainer.datasets.tables.rows import rows

    (tmp_path / "a.png").write_bytes(encoded(picture(2)))
    cells = [{"image": str(tmp_path / "a.png"), "many": [str(tmp_path / "a.png")]}] * 3
    features = Features({"image": ImageFeature(), "many": List(ImageFeature())})
    dataset = Dataset.from_list(cells).cast(features)
    for row in rows(dataset, "train"):
        for name in ("image", "many"):
            [found] = pictures(row.given[name], (tmp_path,), lambda row=row, name=name: row.again()[name])  # type: ignore[misc]
            assert found.load() == picture(2)
    arrays = Dataset.from_dict({"image": [COLOUR.tolist()]}, Features({"image": Array3D(COLOUR.shape, "uint8")}))
    [(given, _)] = rows(arrays, "train")
    assert pictures(given["image"], ())[0].load() == picture(3)


NAMED = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n": "a Git LFS pointer: run git lfs pull",
    b"../.git/annex/objects/1f/2g/SHA256E-s9--0.png": "a git-annex pointer",
    b"\0\0\0\x18ftypheic\0\0\0\0": "a HEIC file: convert it to JPEG or PNG",
    b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic": "a HEIC file",
    b"\0\0\0\x18ftypcrx ": "a camera's raw file",
    b"\0\0\0\x20ftypisom": "a video: extract a frame",
    b"\xff\x0a\0\0": "a JPEG XL file",
    b"%PDF-1.7": "a PDF file",
    b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>": "an SVG drawing",
    b"\n<!DOCTYPE HTML><title>404</title>": "a web page: download the file itself",
    b"PK\x03\x04....": "a ZIP archive",
    b"\x1f\x8b\x08....": "a compressed file: unpack it",
    b"\x93NUMPY\x01\0": "a NumPy file",
    b"\0" * 128 + b"DICM": "a DICOM file",
    b"": "empty: download it again",
}


@pytest.mark.parametrize("data", NAMED, ids=list(NAMED.values()))
def test_a_file_that_is_not_read_is_called_by_its_name(data: bytes) -> None:
    with pytest.raises(PictureError) as caught:
        decode(data, "photo.jpg")
    assert caught.value.reason.startswith(f"image is {NAMED[data]}")
    assert caught.value.message.startswith("photo.jpg: the image is ")


OFF = {"JPEG2000": "JPEG 2000", "ICO": "ICO", "TGA": "TGA", "DDS": "DDS", "QOI": "QOI", "SGI": "SGI", "PDF": "PDF"} | {
    "ICNS": "ICNS",
    "EPS": "PostScript",
}


@pytest.mark.parametrize("kind", OFF)
def test_formats_of_pillow_that_are_kept_off_are_called_by_name(kind: str) -> None:
    with pytest.raises(PictureError, match=f"is an? {OFF[kind]} file: convert it to JPEG or PNG"):
        decode(encoded(ramp().convert("RGB").resize((64, 64)), kind))


def test_a_raw_photo_is_not_taken_for_its_preview() -> None:
    with pytest.raises(PictureError, match="a camera's raw file"):
        decode(encoded(ramp(), "TIFF", tiffinfo={254: 1}))


def test_grey_of_16_bits_in_which_white_is_0_is_turned_around() -> None:
    inverted = encoded(Image.fromarray(np.full((8, 8), 0xFFFF, np.uint16)), "TIFF", tiffinfo={262: 0})
    assert np.asarray(decode(inverted)).mean() == 0


MEASURE = """
import sys
from pathlib import Path
from trainer.datasets import images
for name in sys.argv[1:]:
    found = images.decode(Path(name))
    print(found.size, "of", images.original_size(found))
    del found
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""
MAKE = """
import sys
from PIL import Image
ramp = Image.linear_gradient("L").resize((12000, 9000))
if sys.argv[2] == "JPEG":
    ramp = Image.merge("RGB", (ramp, ramp, ramp))
    ramp.save(sys.argv[1], "JPEG", quality=30)
    ramp.crop((0, 0, 9000, 6000)).save(sys.argv[1] + ".progressive", "JPEG", quality=30, progressive=True)
    ramp.crop((0, 0, 6000, 5000)).save(sys.argv[1] + ".png", "PNG", compress_level=1)
    ramp.crop((0, 0, 4000, 3000)).save(sys.argv[1] + ".webp", "WEBP", method=0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="The peak of memory is told by /proc.")
def test_large_pictures_are_read_in_bounded_memory(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", MAKE, tmp_path / "big", "JPEG"], check=True)
    expected = {
        "big": "(4096, 3072) of (12000, 9000)",
        "big.progressive": "(2250, 1500) of (9000, 6000)",
        "big.png": "(4096, 3413) of (6000, 5000)",
        "big.webp": "(4000, 3000) of (4000, 3000)",
    }
    command = [sys.executable, "-c", MEASURE, *(str(tmp_path / name) for name in expected)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    *said, kilobytes = done.stdout.split("\n")[:-1]
    assert said == list(expected.values())
    assert int(kilobytes) < 300_000


def test_a_picture_of_too_many_pixels_is_refused_by_name_and_size() -> None:
    for mode, most in (("RGB", "3[0-9]"), ("L", "1[0-9]{2}")):
        small = encoded(Image.new(mode, (100, 100)))
        # The width and height of a PNG are the first numbers of its header, whose checksum follows.
        chunk = b"IHDR" + (20_000).to_bytes(4, "big") + (15_000).to_bytes(4, "big") + small[24:29]
        claimed = small[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + small[33:]
        with pytest.raises(PictureError) as caught:
            decode(claimed, "scan.png")
        assert caught.value.reason == images.TOO_LARGE
        said = "scan.png: the image is too large .PNG of 20000 x 15000 pixels, 300 megapixels; the limit"
        assert re.match(f"{said} for this kind is {most}. Shrink it, or save it as a baseline JPEG", str(caught.value))


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_recorder_keeps_pictures_as_they_are_read(sample: str) -> None:
    data = SAMPLES[sample]()
    for form in (data, Image.open(io.BytesIO(data)), {"bytes": data, "path": None}):
        assert decode(for_store(form, ())) == decode(data)
