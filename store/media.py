"""Image files by the SHA-256 of their bytes, in one folder, and in a remote place if the store has one.

A file is written beside its place and then renamed, so that it is whole or absent. Knows nothing of the database.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import warnings
from pathlib import Path

from PIL import Image

from store import remote
from store.connection import Store, StoreError
from store.rows import MediaRow

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MOST_BYTES = 64 * 1024**2
MOST_PIXELS = 100_000_000
"""A browser that is shown more runs out of memory."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def inspect(data: bytes) -> MediaRow:
    """Hash, type and size of an encoded image, by its header; StoreError when it is no image of ours, or too large."""
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


def save(folder: Path, data: bytes) -> MediaRow:
    """Stores an image once and says what it is."""
    row = inspect(data)
    target = path_of(folder, row.sha256)
    if not target.exists():
        try:
            _write(target, data)
        except OSError as error:
            raise StoreError(f"Cannot write an image to {folder}: {error.strerror}.") from None
    return row


def keep(store: Store, data: bytes) -> MediaRow:
    """Stores an image once, in the folder and in the remote place, and says what it is."""
    row = save(store.media, data)
    if store.remote:
        remote.put(store.remote, row.sha256, data)
    return row


def local(store: Store, sha256: str) -> Path:
    """Where an image lies on this machine; what only the remote place has is fetched. The file may not be there.

    Raises StoreError when the place cannot be reached, or holds something else.
    """
    path = path_of(store.media, sha256)
    if store.remote and not path.exists():
        data = remote.get(store.remote, sha256)
        if data is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise StoreError(f"Image {sha256} is damaged in {store.remote}: store it anew from another copy.")
        if data is not None:
            save(store.media, data)
    return path


def remove(store: Store, sha256: str) -> None:
    """Removes an image here and in the remote place."""
    path_of(store.media, sha256).unlink(missing_ok=True)
    if store.remote:
        remote.remove(store.remote, sha256)


def path_of(folder: Path, sha256: str) -> Path:
    """Where an image lies; only a hash has a place, so that no request can leave the folder."""
    if not _SHA256.fullmatch(sha256):
        raise StoreError("An image is named by the 64 hexadecimal digits of its SHA-256.")
    return folder / sha256[:2] / sha256


def _write(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
