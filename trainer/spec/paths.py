"""Resolve text as a path, whatever it contains: text that cannot be a path names no file."""

from __future__ import annotations

import os
from pathlib import Path


def is_file(text: str | os.PathLike[str]) -> bool:
    return os.path.isfile(os.path.expanduser(text))


def is_dir(text: str | os.PathLike[str]) -> bool:
    return os.path.isdir(os.path.expanduser(text))


def absolute(text: str | os.PathLike[str]) -> Path:
    """Return the absolute path, with `~` expanded if that home exists."""
    return Path(os.path.expanduser(text)).absolute()
