"""Reading a dataset's files: JSON, and pictures that lie in its folder or in memory. Knows no dataset's layout."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from trainer.datasets import encodings
from trainer.examples import images
from trainer.examples.images import MISSING, OUTSIDE, PictureError, Source
from trainer.spec.errors import TrainerError

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class EncodedPicture:
    """A picture in an image file; `read` says where it lies or fetches its bytes, and may raise PictureError."""

    identity: str
    read: Callable[[], Source]
    name: str = "a picture"

    def load(self) -> Image.Image:
        return images.decode(self.read(), self.name)

    def encoded(self) -> bytes:
        return images.for_store(self.read(), self.name)


def in_folder(root: Path, name: object) -> EncodedPicture:
    """The picture at a path below `root`, known by its name."""
    return EncodedPicture(posixpath.normpath(str(name)), lambda: find((root,), name), str(name)[:200])


def find(roots: Sequence[Path], name: object) -> Path:
    """The file at a path that is relative to the first root, or absolute; it lies below one of them, links followed.

    Either slash parts folders. Raises PictureError.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise PictureError(MISSING, str(name)[:200])
    text = str(name).strip()
    outside = False
    for form in dict.fromkeys((str(name), text, text.replace("\\", "/"))):
        try:
            path = (roots[0] / form).resolve()
            if any(path.is_relative_to(root.resolve()) for root in roots):
                if path.is_file():
                    return path
            else:
                outside = True
        except (OSError, ValueError):
            # A name with a null character, or longer than a file system takes.
            continue
    outside = outside or _DRIVE.match(text) is not None
    raise PictureError(OUTSIDE if outside else MISSING, text[:200])


def in_memory(data: bytes) -> EncodedPicture:
    return EncodedPicture(digest(data), lambda: data)


def digest(source: Source) -> str:
    """The SHA-256 of a file's bytes. Raises OSError."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path) -> str:
    """A text file in the encoding that it is in, its line ends as they are. Raises TrainerError."""
    codec = encodings.of(path).codec
    try:
        with path.open(encoding=codec, newline="") as file:
            return file.read()
    except OSError as error:
        raise TrainerError("data", f"Cannot read {path}: {error.strerror}. Check data.path.") from None


def read_json(path: Path) -> Any:
    """Raises TrainerError when there is no such file or it holds no JSON."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        fault = str(error).splitlines()[0]
        raise TrainerError("data", f"{path} is not valid JSON ({fault}). Fetch it again.") from None


def json_object(line: str) -> dict[str, Any]:
    """A line of a JSONL file; empty where it holds no JSON object."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def json_lines(path: Path) -> list[str]:
    """The lines of a JSONL file; a text may hold the rarer line breaks, which end no line. Raises TrainerError."""
    lines = read_text(path).split("\n")
    return lines if lines[-1].strip() else lines[:-1]
