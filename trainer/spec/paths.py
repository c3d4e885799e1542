"""Whether a text names a file or a folder, whatever the text: one that no path can be names none."""

from __future__ import annotations

import os
from pathlib import Path


def is_file(text: str | os.PathLike[str]) -> bool:
    return os.path.isfile(os.path.expanduser(text))


def is_dir(text: str | os.PathLike[str]) -> bool:
    return os.path.isdir(os.path.expanduser(text))


def absolute(text: str | os.PathLike[str]) -> Path:
    """Return the path from the root, `~` for a home that there is."""
    return Path(os.path.expanduser(text)).absolute()
