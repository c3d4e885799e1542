"""Read images in any form: paths, bytes, open files, PIL images, arrays, cells of 🤗 Datasets. Does not load torch.

`several` splits a cell into images, `source` turns one into an image file, and the module `images` decodes it.
"""

from __future__ import annotations

import ast
import base64
import binascii
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from PIL import Image

from trainer.datasets import files, images, modes
from trainer.datasets.files import EncodedPicture
from trainer.datasets.images import MISSING, PictureError, Source
from trainer.datasets.tables import values

WEB = "image is a web address: download it and use its path"
PRINTED = "image is the printed form of an object, without pixels: save it as a file and use its path"
MOST_TEXT = 64 * 1024**2
_WEB = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
MOST_PATHS = 10_000
_FILE = r"[^;,|\n]+\.(?:png|jpe?g|webp|gif|bmp|tiff?|avif|ppm)\s*"
_PATHS = re.compile(rf"{_FILE}(?:[;,|\n]{_FILE})+", re.IGNORECASE)
"""Several paths in one cell, as people write them in a spreadsheet."""
_PRINTED = re.compile(r"\s*(?:<[\w.]+ .*at 0x[0-9A-Fa-f]+>|array\(|tensor\()", re.DOTALL)
"""How Python prints images and arrays, which is all that many tables store of them."""
_DATA = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_BASE64 = re.compile(r"(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR|Qk[0-3]|SUkqA|TU0AK)[A-Za-z0-9+/]{80}")
"""Beginnings of JPEG, PNG, GIF, WebP, BMP and TIFF files in base64, which tables of benchmarks use for images."""


def pictures(cell: object, roots: Sequence[Path], again: Callable[[], object] | None = None) -> tuple[Any, ...]:
    """Return the images in the cell `image` or `images`; paths that leave the folders `roots` are not read.

    They are kept in memory as files or, if `again` is given, loaded again from the cell that it returns.
    """
    loaded = []
    for i, item in enumerate(several(cell)):
        loaded.append(_kept(item, roots) if again is None else _fetched(i, again, roots))
    return tuple(loaded)


def several(cell: object) -> list[Any]:
    """Return the images in a cell: none if it is missing, those in a list, or the single one."""
    if isinstance(cell, str):
        cell = _parsed(cell)
    if isinstance(cell, str) and len(cell) <= MOST_PATHS and _PATHS.fullmatch(cell):
        return [path.strip() for path in re.split("[;,|\n]", cell)]
    if isinstance(cell, np.ndarray) and cell.ndim == 0:
        cell = cell.item()
    if values.is_absent(cell):
        return []
    if isinstance(cell, np.ndarray) and (cell.dtype == object or cell.dtype.kind in "SU" or cell.ndim == 4):
        cell = list(cell)
    elif _is_tensor(cell) and getattr(cell, "ndim", 0) == 4:
        cell = list(cell)  # type: ignore[call-overload]
    if isinstance(cell, (list, tuple)) and _depth_of_numbers(cell) in (0, 4):
        return [each for each in cell if not values.is_absent(each)]
    return [cell]


def source(image: object, roots: Sequence[Path]) -> Source:
    """Return an image as a file: its bytes or its path. Raises PictureError."""
    if isinstance(image, Mapping):
        # Prefer bytes to a path, which may be that of another machine.
        inner = [image[key] for key in ("bytes", "path") if not values.is_absent(image.get(key))]
        if not inner:
            raise PictureError(MISSING, "an image")
        return source(inner[0], roots)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if (pixels := _pixels(image)) is not None:
        return images.encode_png(images.decode(pixels))
    if isinstance(image, str) and (match := _DATA.match(image)):
        return _base64(image[match.end() :])
    if isinstance(image, str) and _BASE64.match(image):
        return _base64(image)
    if isinstance(image, str) and image.lower().startswith("file:"):
        image = url2pathname(urlsplit(image).path) or urlsplit(image).netloc
    if isinstance(image, str) and _WEB.match(image):
        raise PictureError(WEB, image[:200])
    if isinstance(image, str) and _PRINTED.match(image):
        raise PictureError(PRINTED, image[:60])
    if isinstance(image, (str, os.PathLike)):
        return files.find(roots, image)
    if callable(getattr(image, "read", None)):
        return _read(image)
    kind = type(image)
    type_name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    raise PictureError(f"image is of type {type_name}: use a path, bytes, a PIL image or an array", type_name)


def for_store(image: object, roots: Sequence[Path]) -> bytes:
    """Return an image in any form as a file that the store accepts and browsers show. Raises PictureError."""
    pixels = _pixels(image)
    return images.for_store(source(image, roots) if pixels is None else pixels)


def _kept(image: object, roots: Sequence[Path]) -> EncodedPicture:
    try:
        file = source(image, roots)
        return EncodedPicture(files.digest(file), lambda: file, _name(image))
    except (PictureError, OSError) as error:
        return _unreadable(error)


def _fetched(i: int, again: Callable[[], object], roots: Sequence[Path]) -> EncodedPicture:
    def read() -> Source:
        return source(several(again())[i], roots)

    try:
        return EncodedPicture(files.digest(read()), read, _name(several(again())[i]))
    except (PictureError, OSError) as error:
        return _unreadable(error)


def _name(image: object) -> str:
    if isinstance(image, Mapping):
        image = image.get("path")
    return str(image)[:200] if isinstance(image, (str, os.PathLike)) else "a picture"


def _unreadable(error: PictureError | OSError) -> EncodedPicture:
    fault = error if isinstance(error, PictureError) else PictureError(MISSING, str(error.filename))

    def read() -> Source:
        raise fault

    return EncodedPicture(f"{fault.reason}: {fault.name}", read)


def _pixels(value: Any) -> Image.Image | None:
    """Return a PIL image, or an array as one; None for anything else. Raises PictureError."""
    if isinstance(value, Image.Image):
        return value
    # NumPy's text and bytes types would also count as arrays.
    is_array = hasattr(value, "__array__") and not isinstance(value, (str, bytes))
    if not (_is_tensor(value) or _depth_of_numbers(value) or is_array):
        return None
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            # NumPy has no bfloat16.
            value = value.float().numpy() if value.is_floating_point() else value.numpy()
        return modes.array(np.asarray(value))
    except PictureError:
        raise
    except Exception as error:
        # Arrays of other libraries may raise anything during conversion.
        reason = str(error) if isinstance(error, ValueError) else f"an array that cannot be read ({error})"
        raise PictureError(f"image is {reason}", "an array") from error


def _is_tensor(value: object) -> bool:
    return hasattr(value, "detach") and hasattr(value, "numpy")


def _depth_of_numbers(value: object) -> int:
    """Return the nesting depth of lists of numbers, which represent arrays in formats without them; 0 for others."""
    depth = 0
    while isinstance(value, (list, tuple)) and value and depth < 4:
        value, depth = value[0], depth + 1
    return depth if depth >= 2 and isinstance(value, (int, float)) else 0


def _parsed(cell: str) -> object:
    """Return the list or 🤗 Datasets cell in a text (JSON or Python's repr), or else the text."""
    text = cell.strip()
    if not text.startswith(("[", "{")) or len(text) > MOST_TEXT:
        return cell
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(value, (list, dict)):
            return value
    return cell


def _base64(text: str) -> bytes:
    try:
        # Encoders split the text into lines.
        return base64.b64decode("".join(text.split()), validate=True)
    except (ValueError, binascii.Error) as error:
        raise PictureError(images.BROKEN, "an image as base64") from error


def _read(file: Any) -> bytes:
    try:
        # An open file may already have been read to its end.
        file.seek(0)
        data = file.read()
    except (OSError, ValueError, AttributeError) as error:
        raise PictureError("image is a closed file: use its bytes or its path", str(file)[:200]) from error
    if not isinstance(data, bytes):
        raise PictureError("image is a text file: open it with mode rb", str(file)[:200])
    return data
