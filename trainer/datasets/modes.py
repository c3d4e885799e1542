"""Convert pixels of any kind, in Pillow's modes or arrays, to 8-bit RGB on white.

An image is processed in bands of rows, so that little more than it and the result is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms

BAND_PIXELS = 1_000_000
WIDE_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Modes with more than 8 bits per channel; Pillow would clip them at 255 and turn them white."""
MIN_IS_WHITE = "min is white"
"""Key in `Image.info` for 16-bit images in which 0 is white, which Pillow does not invert."""


class Tones(NamedTuple):
    """The values that are black and white."""

    black: float
    white: float

    def __call__(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Convert values to 8 bits; NaN becomes black."""
        span = (self.white - self.black) or 1.0
        scaled = (np.nan_to_num(values.astype(np.float64), nan=self.black) - self.black) * (255 / span)
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def rgb(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the image as RGB on white, shrunk to `size` (width, height)."""
    tones = _tones_of(image)
    canvas = Image.new("RGB", size)
    scale = image.height / size[1]
    margin = 0 if size == image.size else math.ceil(2 * scale) + 1
    for top, bottom in _bands(size[1], math.ceil(image.width * scale)):
        first, last = max(0, math.floor(top * scale) - margin), min(image.height, math.ceil(bottom * scale) + margin)
        part = _opaque(image.crop((0, first, image.width, last)), tones)
        if size != image.size:
            box = (0, top * scale - first, image.width, min(bottom * scale, image.height) - first)
            part = part.resize((size[0], bottom - top), Image.Resampling.BICUBIC, box)
        canvas.paste(part, (0, top))
    return canvas


def array(values: np.ndarray[Any, Any]) -> Image.Image:
    """Convert an array to an image: height x width, or with 1 to 4 channels first or last; bool, integers or floats.

    Floats are 0 to 1 or 0 to 255; a single channel may have any range. Raises ValueError with an explanation.
    """
    if values.dtype.kind not in "buif":
        raise ValueError(f"an array of {values.dtype}: use numbers")
    values = _channels_last(values)
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    if values.dtype != np.uint8:
        low, high = _range([values])
        many = values.ndim == 3 and values.shape[2] > 2
        if values.dtype.kind == "f" and many and not 0 <= low <= high <= 255:
            raise ValueError(f"an array of values from {low:.4g} to {high:.4g}: use 0 to 1, or 0 to 255")
        values = tones(low, high, values.dtype)(values)
    return Image.fromarray(np.ascontiguousarray(values))


def tones(low: float, high: float, kind: np.dtype[Any]) -> Tones:
    """Return black and white for values in this range: those of 1, 8 or 16 bits if they fit, or else its ends."""
    if kind == np.uint16:
        return Tones(0, 65535)
    if low >= 0:
        for white in (1, 255, 65535) if kind.kind == "f" else (255, 65535):
            if high <= white:
                return Tones(0, white)
    return Tones(low, high)


def _channels_last(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    shape_given = values.shape
    if values.ndim == 4 and shape_given[0] == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[2] not in (1, 2, 3, 4) and values.shape[0] in (1, 2, 3, 4):
        values = np.moveaxis(values, 0, 2)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (2, 3, 4))) or not values.size:
        shape = " x ".join(map(str, shape_given)) or "no dimension"
        raise ValueError(f"an array of {shape}: use height x width, with 1 to 4 channels first or last")
    return values


def _tones_of(image: Image.Image) -> Tones | None:
    if image.mode not in WIDE_MODES:
        return None
    if image.mode not in ("I", "F"):
        scale = Tones(0, 65535)
    else:
        parts = (np.asarray(image.crop((0, top, image.width, end))) for top, end in _bands(image.height, image.width))
        scale = tones(*_range(parts), np.dtype(np.float32 if image.mode == "F" else np.int32))
    return Tones(scale.white, scale.black) if image.info.get(MIN_IS_WHITE) else scale


def _range(parts: Any) -> tuple[float, float]:
    """Return the lowest and highest finite value."""
    low, high = math.inf, -math.inf
    for part in parts:
        finite = part[np.isfinite(part)] if part.dtype.kind == "f" else part
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _bands(height: int, width: int) -> Iterator[tuple[int, int]]:
    rows = max(1, BAND_PIXELS // max(1, width))
    for top in range(0, height, rows):
        yield top, min(height, top + rows)


def _opaque(part: Image.Image, scale: Tones | None) -> Image.Image:
    if scale is not None:
        values = np.asarray(part)
        grey = scale(values)
        clear = part.info.get("transparency")
        return Image.fromarray(np.where(values == clear, np.uint8(255), grey) if isinstance(clear, int) else grey)
    if part.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(part, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if part.mode == "La":
        part = part.convert("LA")
    if part.has_transparency_data:
        layer = part.convert("RGBA")
        part = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return part.convert("RGB")
