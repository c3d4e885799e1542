"""Read a dataset's files: JSON, and images in its folder or in memory."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from PIL import Image

from trainer.datasets import images
from trainer.datasets.images import MISSING, OUTSIDE, PictureError, Source
from trainer.datasets.tables import encodings
from trainer.spec.errors import TrainerError

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class EncodedPicture:
    """An image in a file; `read` returns its path or its bytes, and may raise PictureError."""

    identity: str
    read: Callable[[], Source]
    name: str = "an image"

    def load(self) -> Image.Image:
        return images.decode(self.read(), self.name)

    def encoded(self) -> bytes:
        return images.for_store(self.read(), self.name)


def in_folder(root: Path, name: object) -> EncodedPicture:
    """Return the image at a path in `root`, which identifies it."""
    return EncodedPicture(posixpath.normpath(str(name)), lambda: find((root,), name), str(name)[:200])


def find(roots: Sequence[Path], name: object) -> Path:
    """Return the file at a path, absolute or relative to the first root; links resolved, it must be in one of them.

    Slashes and backslashes separate folders, accents may be written in either way of Unicode, and characters as `%20`.
    Raises PictureError.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise PictureError(MISSING, str(name)[:200])
    text = str(name).strip()
    outside = False
    plain = text.replace("\\", "/")
    # In file names, macOS writes accents as separate characters, but tables do not; labelling tools write %20.
    accents = (unicodedata.normalize("NFC", plain), unicodedata.normalize("NFD", plain))
    forms = (str(name), text, plain, *accents, unquote(plain))
    for form in dict.fromkeys(forms):
        try:
            path = (roots[0] / form).resolve()
            if any(path.is_relative_to(root.resolve()) for root in roots):
                if path.is_file():
                    return path
            else:
                outside = True
        except (OSError, ValueError):
            # The name contains a null character, or is longer than file systems allow.
            continue
    outside = outside or _DRIVE.match(text) is not None
    raise PictureError(OUTSIDE if outside else MISSING, text[:200])


def in_memory(data: bytes) -> EncodedPicture:
    return EncodedPicture(digest(data), lambda: data)


def digest(source: Source) -> str:
    """Return the SHA-256 of a file's bytes. Raises OSError."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path) -> str:
    """Return a text file decoded by its detected encoding, with its line ends. Raises TrainerError."""
    codec = encodings.of(path).codec
    try:
        with path.open(encoding=codec, newline="") as file:
            return file.read()
    except OSError as error:
        raise TrainerError("data", f"Cannot read {path}: {error.strerror}. Check data.path.") from None


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises TrainerError if it is missing or invalid."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        fault = str(error).splitlines()[0]
        raise TrainerError("data", f"{path} is not valid JSON ({fault}). Download it again.") from None


def json_object(line: str) -> dict[str, Any]:
    """Parse a line of a JSONL file; return an empty object if it is not a JSON object."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def json_lines(path: Path) -> list[str]:
    """Return the lines of a JSONL file, split only at \\n: texts may have other line breaks. Raises TrainerError."""
    lines = read_text(path).split("\n")
    return lines if lines[-1].strip() else lines[:-1]
