"""Decode possibly hostile image files in bounded memory, and encode images for the store."""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageFile, ImageOps, JpegImagePlugin, TiffImagePlugin

from trainer.datasets import kinds, modes
from trainer.spec.errors import TrainerError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""The formats that are decoded. Pillow's other formats are off: EPS and WMF run other programs; JPEG 2000 takes 30
bytes per pixel in a library with many known vulnerabilities; ICO, ICNS, PSD, DDS and FITS have several images or
hide their sizes; TGA, PCX and the like have no signature, so that any file could pass for one; QOI, FLI, SGI and the
rest are decoded by code that is little tested."""
KEPT_FORMATS = ("JPEG", "PNG", "WEBP")
MISSING = "image is missing"
OUTSIDE = "image lies outside the dataset's folder"
BROKEN = "image cannot be decoded"
TOO_LARGE = "image is too large"
MOST_BYTES = 256 * 1024**2
MOST_MEMORY = 200_000_000
"""Most bytes of memory for decoding, including the shrunk result."""
MOST_PIXELS = 250_000_000
"""Most pixels: phones take 200 megapixels; with more, even skipping pixels takes many seconds."""
ORIENTATION = 0x0112
"""The EXIF tag for orientation."""
LONGEST_EDGE = 4096
"""Longest edge in pixels; no image processor here uses more, and a batch of larger images fills the memory."""
SHORTEST_EDGE = 28
"""Shortest edge in pixels; with less, processors mistake rows for channels, and Qwen2-VL has no whole patch."""
NARROWEST = 100
"""Largest ratio of longest to shortest edge; Qwen2-VL refuses images above 200."""
KEPT_BYTES = 4 * 1024**2
PNG_PIXELS = 1_000_000
"""Pixels above which images that must be re-encoded become JPEG, because a photo as PNG takes seconds and megabytes."""
ORIGINAL_SIZE = "original size"
"""Key in `Image.info` for the size of an image before it was shrunk."""

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes per pixel that Pillow keeps; 4 in other modes."""
_BESIDE = {"WEBP": 12, "AVIF": 8}
"""Bytes per pixel that a decoder takes in addition to Pillow's, as measured."""
_RAW_PHOTO = "a camera's raw file: convert it to JPEG or PNG"
_DNG_VERSION, _SUBFILE, _BITS, _PHOTOMETRIC, _ROWS_PER_STRIP = 50706, 254, 258, 262, 278

Source = bytes | Path
"""An image file: its bytes or its path."""

# Our limit is by memory; Pillow's own refuses photos from phones.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS


class PictureError(TrainerError):
    """Raised for an image that cannot be used; `reason` is a phrase to count by, `detail` describes this case."""

    def __init__(self, reason: str, name: str, detail: str = "") -> None:
        advice = "" if ":" in reason or "." in detail else " Check the dataset's files."
        super().__init__("data", f"{name}: the {reason}{f' ({detail})' if detail else ''}.{advice}")
        self.reason, self.name, self.detail = reason, name, detail

    @property
    def case(self) -> str:
        """Return which picture it is, and what is wrong with it."""
        return f"{self.name}: {self.detail}" if self.detail else self.name


def decode(source: Source | Image.Image, name: str = "an image") -> Image.Image:
    """Decode an image as upright RGB on white, shrunk to LONGEST_EDGE; of an animation, the first frame.

    `original_size` returns its size before shrinking. Raises PictureError.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(source, Image.Image):
                return _upright(source)
            _check_bytes(source, name)
            # Pass an open file: with a name, Pillow maps a TIFF into memory and mixes up the rows of a rotated
            # one.
            with _opened(source) as file, Image.open(file, formats=FORMATS) as image:
                _prepare(image, source, name)
                return _upright(image)
    except PictureError:
        raise
    except FileNotFoundError as error:
        raise PictureError(MISSING, name) from error
    except Image.DecompressionBombError as error:
        pixels = max(map(int, re.findall("[0-9]+", str(error))), default=0)
        detail = f"{pixels / 1e6:.0f} megapixels; the limit is {MOST_PIXELS / 1e6:.0f}. Shrink it"
        raise PictureError(TOO_LARGE, name, detail) from error
    except Exception as error:
        # Decoders raise a dozen kinds of exception for hostile bytes.
        raise _unknown(source, name) from error


def original_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of the upright image before `decode` shrank it."""
    width, height = image.info.get(ORIGINAL_SIZE, image.size)
    return width, height


def _check_bytes(source: Source, name: str) -> None:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > MOST_BYTES:
        raise PictureError(TOO_LARGE, name, f"a file of {size / 1e6:,.0f} MB; the limit is {MOST_BYTES / 1e6:,.0f} MB")


def _prepare(image: ImageFile.ImageFile, source: Source, name: str) -> None:
    """Refuse images that need too much memory, by their header; decode a large JPEG at 1/2, 1/4 or 1/8 of its size."""
    width, height = image.size
    bytes_ = len(source) if isinstance(source, bytes) else source.stat().st_size
    for skipped in (1, 2, 4, 8) if isinstance(image, JpegImagePlugin.JpegImageFile) else (1,):
        if _fits(image, bytes_, skipped):
            break
    else:
        megapixels = width * height / 1e6
        most = max((share for share in range(100) if _fits(image, bytes_, skipped, share / 100)), default=0)
        sort = f"{'progressive ' if image.info.get('progressive') else ''}{image.format}"
        raise PictureError(
            TOO_LARGE,
            name,
            f"{sort} of {width} x {height} pixels, {megapixels:.0f} megapixels; the limit for this kind is "
            f"{megapixels * most / 100:.0f}. Shrink it, or save it as a baseline JPEG",
        )
    image.info[ORIGINAL_SIZE] = image.size
    if skipped > 1:
        image.draft(None, (max(1, width // skipped), max(1, height // skipped)))
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        if _DNG_VERSION in tags or tags.get(_SUBFILE) == 1:
            # Pillow would read only the small preview.
            raise PictureError(f"image is {_RAW_PHOTO}", name)
        image.info[modes.MIN_IS_WHITE] = image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == 0


def _fits(image: ImageFile.ImageFile, file_size: int, skipped: int, share: float = 1.0) -> bool:
    """Return whether decoding every `skipped`-th row and column fits into memory, for this share of the area."""
    width, height = (edge * math.sqrt(share) for edge in image.size)
    pixels, decoded = width * height, width * height / skipped**2
    stored = decoded * _STORED.get(image.mode, 4)
    loading = stored + decoded * _BESIDE.get(image.format or "", 0)
    if image.format in ("WEBP", "AVIF", "TIFF"):
        loading += file_size * share
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        loading += min(tags.get(_ROWS_PER_STRIP, height), height) * width * sum(tags.get(_BITS, (8,))) / 8
        if tags.get(ORIENTATION, 1) != 1:
            loading += stored
    if isinstance(image, JpegImagePlugin.JpegImageFile) and _is_buffered(image):
        loading += 2 * pixels * _samples(image)
    shrunk = 4 * pixels * min(1.0, LONGEST_EDGE / max(width, height, 1)) ** 2
    return pixels <= MOST_PIXELS and max(loading, stored + shrunk) <= MOST_MEMORY


def _is_buffered(image: JpegImagePlugin.JpegImageFile) -> bool:
    """Return whether a JPEG has several scans, whose coefficients are all kept until the last."""
    if image.info.get("progressive"):
        return True
    assert image.fp is not None
    place = image.fp.tell()
    try:
        image.fp.seek(2)
        while len(marker := image.fp.read(4)) == 4:
            if marker[0] != 0xFF or marker[1] == 0xFF:
                return True
            if marker[1] == 0xDA:
                return image.fp.read(1)[0] < image.layers
            image.fp.seek(int.from_bytes(marker[2:], "big") - 2, os.SEEK_CUR)
        return True
    finally:
        image.fp.seek(place)


def _samples(image: JpegImagePlugin.JpegImageFile) -> float:
    """Return samples per pixel: 3 for full colour, 1.5 if colour is stored at half width and height."""
    factors = [(across, down) for _, across, down, _ in image.layer]
    most = max(across for across, _ in factors) * max(down for _, down in factors)
    return sum(across * down for across, down in factors) / most


def _upright(image: Image.Image) -> Image.Image:
    """Return the image as RGB on white, shrunk, and rotated according to EXIF."""
    shrink = min(1.0, LONGEST_EDGE / max(image.size))
    image.load()
    size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
    upright = modes.rgb(image, size)
    turned = image.info.get(ORIGINAL_SIZE, image.size)
    exif = Image.Exif()
    # Ignore EXIF that cannot be parsed: the pixels have been read.
    with suppress(Exception):
        exif[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    upright.info.clear()
    if exif.get(ORIENTATION, 1) in range(2, 9):
        upright.info["exif"] = exif.tobytes()
        upright = ImageOps.exif_transpose(upright)
        if exif[ORIENTATION] >= 5:
            turned = turned[::-1]
        upright.info.clear()
    if turned != upright.size:
        upright.info[ORIGINAL_SIZE] = turned
    return upright


def _unknown(source: Source | Image.Image, name: str) -> PictureError:
    """Return an error that says what the file is, if known."""
    kind = None
    if not isinstance(source, Image.Image):
        with suppress(OSError), _opened(source) as file:
            head = file.read(kinds.HEAD)
            file.seek(max(0, file.seek(0, os.SEEK_END) - 32))
            kind = kinds.of(head, file.read())
    return PictureError(f"image is {kind}" if kind else BROKEN, name)


def _opened(source: Source) -> io.BytesIO | io.BufferedReader:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def fit(image: Image.Image) -> Image.Image:
    """Return the image in a size that every processor accepts; it is shrunk, padded or enlarged only if necessary."""
    if max(image.size) > LONGEST_EDGE:
        factor = LONGEST_EDGE / max(image.size)
        image = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))
    least = -(-max(image.size) // NARROWEST)
    if min(image.size) < least:
        wide = max(image.width, least), max(image.height, least)
        image = ImageOps.pad(image, wide, color="white")
    if min(image.size) < SHORTEST_EDGE:
        factor = -(-SHORTEST_EDGE // min(image.size))
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return image


def encode_png(image: Image.Image) -> bytes:
    """Return PNG bytes; the same image gives the same bytes and SHA-256."""
    buffer = io.BytesIO()
    quick = image.width * image.height > PNG_PIXELS
    image.convert("RGB").save(buffer, format="PNG", compress_level=1 if quick else 6)
    return buffer.getvalue()


def for_store(source: Source | Image.Image, name: str = "an image") -> bytes:
    """Return the file unchanged if browsers show it correctly, or else re-encoded. Raises PictureError."""
    if not isinstance(source, Image.Image) and (original := _plain(source)) is not None:
        return original
    image = decode(source, name)
    if image.width * image.height <= PNG_PIXELS:
        return encode_png(image)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def _plain(source: Source) -> bytes | None:
    """Return the bytes of an upright, opaque RGB image in a browser's format, judging by its header, or None."""
    try:
        if (len(source) if isinstance(source, bytes) else source.stat().st_size) > KEPT_BYTES:
            return None
        data = source if isinstance(source, bytes) else source.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=KEPT_FORMATS) as image:
                is_plain = (
                    image.mode == "RGB"
                    and max(image.size) <= LONGEST_EDGE
                    and not image.has_transparency_data
                    and getattr(image, "n_frames", 1) == 1
                    and image.getexif().get(ORIENTATION, 1) == 1
                )
                return data if is_plain else None
    except Exception:
        # As in `decode`: hostile bytes are not stored unchanged, whatever a decoder raises.
        return None
