"""The SQL database that trainer and dashboard share. In a notebook: `store.open("data/vision-r1-zero.db").runs()`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.frames import Frames


def open(place: str | None = None) -> Frames:
    """Open a database (URL or path) to read pandas data frames. Raises StoreError."""
    from store.frames import open_frames  # only notebooks need pandas

    return open_frames(place)
