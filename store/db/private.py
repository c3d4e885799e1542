"""Create folders and files that other accounts of this machine can neither read nor change."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from store.db.connection import StoreError

UMASK = 0o077
"""The umask of processes that write what runs record, whatever library does the writing."""
FOLDER, FILE = 0o700, 0o600
LOCKS = "locks"
IS_POSIX = os.name == "posix"


def make_folder(path: Path) -> None:
    """Make a folder for this account alone; an existing one stays as it is. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=FOLDER, exist_ok=True)


def make_file(path: Path) -> None:
    """Make an empty file for this account alone if there is none. Errors are left to whoever opens it next."""
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE))


def opener(name: str, flags: int) -> int:
    """Open a file as `open` asks; one that it creates is for this account alone."""
    return os.open(name, flags, FILE)


def append(path: Path) -> IO[bytes]:
    """Open a file for appending, for this account alone. Raises OSError."""
    return open(path, "ab", opener=opener)


def close_to_others(paths: Iterable[Path]) -> None:
    """Remove other accounts' access that earlier versions, or a generous umask, have granted."""
    for path in paths:
        with suppress(OSError):
            mode = path.lstat().st_mode
            if IS_POSIX and mode & UMASK and not path.is_symlink():
                path.chmod(mode & 0o7777 & ~UMASK)


def lock_folder(data: Path) -> Path:
    """Return the folder for locks: private, since whoever can open a lock can hold it and block others.

    Raises StoreError if the folder belongs to somebody else.
    """
    folder = data / LOCKS
    make_folder(folder)
    close_to_others([folder])
    facts = folder.stat()
    if IS_POSIX and (facts.st_uid != os.geteuid() or facts.st_mode & UMASK):
        raise StoreError(f"{folder} belongs to another account, or is open to others: remove it, or move the database.")
    return folder
