"""Store images by the SHA-256 of their bytes, in one folder or at a URL.

A file is written under another name and then renamed, so that it is complete or absent; several machines may share the
folder. What lies at a URL is cached in a local folder once it has been read and its hash is right. (fsspec's own caches
write under the final name, where another process would read half a file.)
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
"""Most pixels of an image: a browser that is shown more runs out of memory."""
SETTLED_SECONDS = 3600.0
"""Seconds before a file counts as stray: it is written before the row that refers to it."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Lost(StoreError):
    """An image is missing or damaged."""


def inspect(data: bytes) -> MediaRow:
    """Return an encoded image's hash, type and size from its header. Raises StoreError for what we do not store."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                mime, (width, height) = image.get_format_mimetype() or "", image.size
    except Exception as error:
        # Decoders answer hostile bytes with a dozen kinds of exception.
        raise StoreError(
            f"An image cannot be read ({error}): give the bytes of a PNG, JPEG, WebP or GIF file."
        ) from None
    if len(data) > MOST_BYTES or width * height > MOST_PIXELS:
        raise StoreError(f"An image of {width} x {height} pixels in {len(data):,} bytes is too large: shrink it.")
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
    """Copy the images of these hashes; return how many exist now, and how many were missing or damaged.

    Existing files are read, and rewritten if damaged.
    """
    copied = lost = 0
    for sha256 in hashes:
        try:
            if not _is_sound(target, sha256):
                _put(target, sha256, content(source, sha256))
            copied += 1
        except Lost:
            lost += 1
    return copied, lost


def content(place: Place, sha256: str) -> bytes:
    """Return the bytes of an image, with the right hash. Raises Lost, or StoreError if nobody answers."""
    name = name_of(sha256)
    try:
        data = place.get(name) if isinstance(place, Bucket) else (place / name).read_bytes()
    except FileNotFoundError:
        raise Lost(f"Image {sha256} is gone: restore it from a backup.") from None
    except OSError as error:
        raise StoreError(f"Image {sha256} in {place} cannot be read: {error.strerror}.") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Lost(f"Image {sha256} is damaged: restore it from a backup.")
    return data


def local(place: Place, sha256: str) -> Path:
    """Return an image as a local file; from a URL it is downloaded and checked first. Raises like `content`."""
    folder = _folder_of(place)
    path = path_of(folder, sha256)
    if isinstance(place, Bucket) and not path.is_file():
        _write(folder, sha256, content(place, sha256))
    if not path.is_file():
        raise Lost(f"Image {sha256} is gone: restore it from a backup.")
    return path


def strays(place: Place, known: set[str]) -> Iterator[Listed]:
    """Yield old images and partial files that are not among the hashes `known`."""
    for file in place.listed() if isinstance(place, Bucket) else _listed(place):
        folder, _, name = file.name.rpartition("/")
        is_ours = len(folder) == 2 and (_SHA256.fullmatch(name) or name.startswith("."))
        if is_ours and name not in known and _is_settled(place, file):
            yield file


def remove(place: Place, names: Iterable[str]) -> None:
    """Remove files by name (from `name_of` or `strays`), if they exist."""
    names = list(names)
    if isinstance(place, Bucket):
        place.remove(names)
    for name in names:
        (_folder_of(place) / name).unlink(missing_ok=True)


def name_of(sha256: str) -> str:
    """Return an image's path below its place. Only a hash has one, so no request can escape from the place."""
    if not _SHA256.fullmatch(sha256):
        raise StoreError("An image is named by the 64 hexadecimal digits of its SHA-256.")
    return f"{sha256[:2]}/{sha256}"


def path_of(folder: Path, sha256: str) -> Path:
    """Return the path of an image in a folder, or None if it is not there."""
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
    """Return the permissions of others: a folder that is shared by them shares its files, too."""
    return folder.stat().st_mode & private.UMASK
