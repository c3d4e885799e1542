"""Store images by the SHA-256 of their bytes, in one folder or at a URL.

A file is written under a temporary name and then renamed, so that it is complete or absent; several machines may share
the folder. Files from a URL are cached in a local folder after their hash is verified. (fsspec's own caches write under
the final name, where another process could read an incomplete file.)
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from PIL import Image

from store.db import private
from store.db.bucket import Bucket, Listed, Place
from store.db.connection import StoreError
from store.db.rows import MediaRow

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MOST_BYTES = 64 * 1024**2
MOST_PIXELS = 100_000_000
"""Most pixels of an image; more would make a browser run out of memory."""
SETTLED_SECONDS = 3600.0
"""Age in seconds at which a file can count as stray; it is written before the row that refers to it."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Lost(StoreError):
    """Raised for an image that is missing or damaged."""


def inspect(data: bytes) -> MediaRow:
    """Return an encoded image's hash, type and size from its header. Raises StoreError for unsupported files."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                mime, (width, height) = image.get_format_mimetype() or "", image.size
    except Exception as error:
        # Decoders raise a dozen kinds of exception for hostile bytes.
        raise StoreError(f"An image cannot be read ({error}). Use a PNG, JPEG, WebP or GIF file.") from None
    if len(data) > MOST_BYTES or width * height > MOST_PIXELS:
        raise StoreError(f"An image of {width} x {height} pixels and {len(data):,} bytes is too large. Shrink it.")
    return MediaRow(hashlib.sha256(data).hexdigest(), mime, width, height, len(data))


def save(place: Place, data: bytes) -> MediaRow:
    """Store an image once and return its row. Raises StoreError if it cannot be stored."""
    row = inspect(data)
    if isinstance(place, Bucket) and not place.has(name_of(row.sha256)):
        place.put(name_of(row.sha256), data)
    folder = _folder_of(place)
    if not path_of(folder, row.sha256).exists():
        _write(folder, row.sha256, data)
    return row


def copy(source: Place, target: Place, hashes: Iterable[str]) -> tuple[int, int]:
    """Copy the images with these hashes; return how many exist now, and how many were missing or damaged.

    Existing files are verified, and rewritten if damaged.
    """
    copied = missing = 0
    for sha256 in hashes:
        try:
            if not _is_sound(target, sha256):
                _put(target, sha256, content(source, sha256))
            copied += 1
        except Lost:
            missing += 1
    return copied, missing


def content(place: Place, sha256: str) -> bytes:
    """Return the bytes of an image after verifying its hash. Raises Lost, or StoreError if they cannot be read."""
    name = name_of(sha256)
    try:
        data = place.get(name) if isinstance(place, Bucket) else (place / name).read_bytes()
    except FileNotFoundError:
        raise Lost(f"Image {sha256} is missing. Restore it from a backup.") from None
    except OSError as error:
        raise StoreError(f"Image {sha256} in {place} cannot be read: {error.strerror}.") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Lost(f"Image {sha256} is damaged. Restore it from a backup.")
    return data


def local(place: Place, sha256: str) -> Path:
    """Return the path of an image's local file, downloaded and verified first if necessary. Raises like `content`."""
    folder = _folder_of(place)
    path = path_of(folder, sha256)
    if isinstance(place, Bucket) and not path.is_file():
        _write(folder, sha256, content(place, sha256))
    if not path.is_file():
        raise Lost(f"Image {sha256} is missing. Restore it from a backup.")
    return path


def strays(place: Place, known_hashes: set[str]) -> Iterator[Listed]:
    """Yield old images and incomplete files whose hash is not in `known_hashes`."""
    for file in place.listed() if isinstance(place, Bucket) else _listed(place):
        folder, _, name = file.name.rpartition("/")
        is_ours = len(folder) == 2 and (_SHA256.fullmatch(name) or name.startswith("."))
        if is_ours and name not in known_hashes and _is_settled(place, file):
            yield file


def remove(place: Place, names: Iterable[str]) -> None:
    """Remove files by name (from `name_of` or `strays`), if they exist."""
    names = list(names)
    if isinstance(place, Bucket):
        place.remove(names)
    for name in names:
        (_folder_of(place) / name).unlink(missing_ok=True)


def name_of(sha256: str) -> str:
    """Return an image's relative path. Raises StoreError for anything but a hash, so that no path can escape."""
    if not _SHA256.fullmatch(sha256):
        raise StoreError("The name of an image must be the 64 hexadecimal digits of its SHA-256.")
    return f"{sha256[:2]}/{sha256}"


def path_of(folder: Path, sha256: str) -> Path:
    """Return the path of an image in a folder."""
    return folder / name_of(sha256)


def _is_sound(place: Place, sha256: str) -> bool:
    try:
        content(place, sha256)
    except Lost:
        return False
    return True


def _put(place: Place, sha256: str, data: bytes) -> None:
    if isinstance(place, Bucket):
        place.put(name_of(sha256), data)
    else:
        _write(place, sha256, data)


def _folder_of(place: Place) -> Path:
    return place.cache if isinstance(place, Bucket) else place


def _listed(folder: Path) -> Iterator[Listed]:
    for path in sorted(folder.glob("??/*")):
        if path.is_file() and not path.is_symlink():
            yield Listed(f"{path.parent.name}/{path.name}", str(path), path.stat().st_size)


def _is_settled(place: Place, file: Listed) -> bool:
    changed = place.changed(file.name) if isinstance(place, Bucket) else (place / file.name).stat().st_mtime
    return changed is not None and changed < time.time() - SETTLED_SECONDS


def _write(folder: Path, sha256: str, data: bytes) -> None:
    target = path_of(folder, sha256)
    unfinished = target.with_name(f".{sha256}-{uuid4().hex}")
    try:
        if not target.parent.exists():
            private.make_folder(folder)
            target.parent.mkdir(exist_ok=True)
            target.parent.chmod(private.FOLDER | _open_to(folder))
        with open(unfinished, "xb", opener=private.opener) as file:
            file.write(data)
        if open_to := _open_to(folder):
            unfinished.chmod(private.FILE | (open_to & 0o066))
        os.replace(unfinished, target)
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StoreError(f"Cannot write an image to {folder}: {error.strerror}.") from None
        raise


def _open_to(folder: Path) -> int:
    """Return the folder's permissions for others, which its files get as well."""
    return folder.stat().st_mode & private.UMASK
