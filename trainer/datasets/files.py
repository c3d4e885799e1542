"""Reading a dataset's files: JSON, and pictures that lie in its folder or in memory. Knows no dataset's layout."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from trainer.datasets import images
from trainer.datasets.images import MISSING, MOST_BYTES, TOO_LARGE, PictureError
from trainer.errors import TrainerError


@dataclass(frozen=True)
class EncodedPicture:
    """A picture in an image file's bytes; `read` fetches them and may raise PictureError."""

    identity: str
    read: Callable[[], bytes]

    def load(self) -> Image.Image:
        return images.decode(self.read(), self.identity)

    def encoded(self) -> bytes:
        return images.for_store(self.read(), self.identity)


def in_folder(root: Path, name: object) -> EncodedPicture:
    """The picture at a relative path below `root`; one that leads out of it, also by a link, counts as missing."""

    def read() -> bytes:
        path = inside(root, name)
        if path is None:
            raise PictureError(MISSING, str(name))
        try:
            if path.stat().st_size > MOST_BYTES:
                raise PictureError(TOO_LARGE, str(name))
            return path.read_bytes()
        except OSError as error:
            raise PictureError(MISSING, str(name)) from error

    return EncodedPicture(posixpath.normpath(str(name)), read)


def inside(root: Path, name: object) -> Path | None:
    """The file at a relative path below `root`, or None."""
    if not isinstance(name, str):
        return None
    try:
        path = (root / name).resolve()
        return path if path.is_relative_to(root.resolve()) and path.is_file() else None
    except (OSError, ValueError):
        # A name with a null character, or longer than a file system takes.
        return None


def in_memory(data: bytes) -> EncodedPicture:
    return EncodedPicture(digest(data), lambda: data)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_text(path: Path) -> str:
    """A file in UTF-8, with or without a byte order mark, its line ends as they are. Raises TrainerError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TrainerError("data", f"Cannot read {path}: {error.strerror}. Check data.path.") from None
    except UnicodeDecodeError:
        raise TrainerError("data", f"{path} is not a text file in UTF-8. Convert it.") from None


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
