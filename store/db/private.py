"""Create folders and files that other users of this machine can neither read nor change."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from store.db.connection import StoreError

UMASK = 0o077
"""The umask of processes that write runs' data, which also applies to files that libraries write."""
FOLDER, FILE = 0o700, 0o600
LOCKS = "locks"
IS_POSIX = os.name == "posix"


def make_folder(path: Path) -> None:
    """Create a folder that only this user can access; an existing one is not changed. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=FOLDER, exist_ok=True)


def make_file(path: Path) -> None:
    """Create an empty file that only this user can access, unless it exists. Errors show when it is next opened."""
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE))


def opener(name: str, flags: int) -> int:
    """Open a file for `open`; if it is created, only this user can access it."""
    return os.open(name, flags, FILE)


def append(path: Path) -> IO[bytes]:
    """Open a file for appending; if it is created, only this user can access it. Raises OSError."""
    return open(path, "ab", opener=opener)


def close_to_others(paths: Iterable[Path]) -> None:
    """Remove access of other users that earlier versions or a permissive umask have granted."""
    for path in paths:
        with suppress(OSError):
            mode = path.lstat().st_mode
            if IS_POSIX and mode & UMASK and not path.is_symlink():
                path.chmod(mode & 0o7777 & ~UMASK)


def lock_folder(data: Path) -> Path:
    """Return the folder for locks, which is private, because anyone who can open a lock can hold it and block others.

    Raises StoreError if the folder belongs to another user.
    """
    folder = data / LOCKS
    make_folder(folder)
    close_to_others([folder])
    facts = folder.stat()
    if IS_POSIX and (facts.st_uid != os.geteuid() or facts.st_mode & UMASK):
        raise StoreError(f"{folder} belongs to another user, or others can access it. Remove it, or move the database.")
    return folder
