"""Pictures as bytes and as pixels: decoding hostile files, encoding for the store. Knows nothing of datasets."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from trainer.errors import TrainerError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
KEPT_FORMATS = ("JPEG", "PNG", "WEBP")
MISSING = "image is missing"
BROKEN = "image cannot be decoded"
TOO_LARGE = "image is too large"
MOST_BYTES = 64 * 1024**2
MOST_PIXELS = 100_000_000
"""A picture that claims more, in however few bytes, would fill the memory with what its decoder makes of it."""
ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is turned."""
LONGEST_EDGE = 4096
"""Pixels; no processor of ours looks at more, and a batch of larger pictures fills the memory."""
SHORTEST_EDGE = 28
"""Pixels; below it processors mistake rows for channels, and Qwen2-VL has no whole patch."""
NARROWEST = 100
"""Longest by shortest edge; Qwen2-VL refuses pictures beyond 200."""
KEPT_BYTES = 4 * 1024**2
PNG_PIXELS = 1_000_000
"""A larger picture that must be encoded again becomes a JPEG: a photo as PNG takes seconds and megabytes."""


class PictureError(TrainerError):
    """A picture that cannot be used; `reason` is a phrase to count by."""

    def __init__(self, reason: str, name: str) -> None:
        super().__init__("data", f"{name}: the {reason}. Check the dataset's files.")
        self.reason = reason


def decode(data: bytes, name: str = "a picture") -> Image.Image:
    """The whole picture as upright RGB on white; of an animation the first frame. Raises PictureError."""
    if len(data) > MOST_BYTES:
        raise PictureError(TOO_LARGE, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise PictureError(TOO_LARGE, name)
                image.load()
                return _rgb(_upright(image))
    except (PictureError, Image.DecompressionBombError) as error:
        raise PictureError(TOO_LARGE, name) from error
    except Exception as error:
        # Decoders answer hostile bytes with a dozen kinds of exception.
        raise PictureError(BROKEN, name) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # EXIF that cannot be parsed says nothing about the pixels, which have been read.
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit grey at 255, and so make it white.
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def fit(image: Image.Image) -> Image.Image:
    """The picture in a size that every processor takes: shrunk, padded or enlarged only where it must be."""
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
    """PNG bytes; the same picture gives the same bytes, and so the same SHA-256."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()


def for_store(data: bytes, name: str = "a picture") -> bytes:
    """The file as it is where a browser shows it right, else encoded again. Raises PictureError."""
    if len(data) <= KEPT_BYTES and _is_plain(data):
        return data
    image = decode(data, name)
    image.thumbnail((LONGEST_EDGE, LONGEST_EDGE))
    if image.width * image.height <= PNG_PIXELS:
        return encode_png(image)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def _is_plain(data: bytes) -> bool:
    """One upright, opaque RGB picture in a format that browsers show, judged by its header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=KEPT_FORMATS) as image:
                return (
                    image.mode == "RGB"
                    and max(image.size) <= LONGEST_EDGE
                    and not image.has_transparency_data
                    and getattr(image, "n_frames", 1) == 1
                    and image.getexif().get(ORIENTATION, 1) == 1
                )
    except Exception:
        # As in `decode`: whatever a decoder says of hostile bytes, they are not kept as they are.
        return False
