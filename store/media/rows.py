"""Images as rows of the database."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from store.db.connection import Store, StoreError, reading
from store.db.rows import MediaRow
from store.db.schema import Media
from store.db.sql import columns
from store.media import files


def get_media(store: Store, sha256: str) -> MediaRow:
    """Return type and size of an image. Raises StoreError if no image has this hash."""
    with reading(store) as connection:
        row = connection.execute(select(*columns(Media, MediaRow)).where(Media.sha256 == sha256)).first()
    if row is None:
        raise StoreError("No image has this hash.")
    return MediaRow._make(row)


def media_path(store: Store, sha256: str) -> Path:
    """Return the path of an image as a local file, downloaded first if images are at a URL.

    Raises StoreError if it is missing or damaged, or if `sha256` is not 64 hexadecimal digits.
    """
    return files.local(store.media, sha256)
