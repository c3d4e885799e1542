"""Import journals from folders: records that were never delivered, from this machine or another."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import NamedTuple

from store.db.connection import StoreError
from store.db.engine import Store
from store.media import files as media
from store.recording import records
from store.recording.intake import next_record_number, take
from store.recording.records import IMAGES, LINES, PREFIX, Begin, Damaged, Newer

AT_ONCE = 200
"""Lines imported under one lock; few enough not to make a live script wait."""


class Taken(NamedTuple):
    """The result of importing a journal."""

    folder: Path
    run: str
    """Uid of its run; empty if nothing was imported."""
    new: int
    """Number of new records."""
    problem: str | None = None


def sync(store: Store, places: list[Path]) -> list[Taken]:
    """Import all journals in and below folders. Raises StoreError if a folder has none."""
    results: list[Taken] = []
    for place in places:
        folders = journals(place)
        if not place.expanduser().exists():
            raise StoreError(f"{place} does not exist. Name an existing folder.")
        if not folders:
            raise StoreError(f"{place} has no journal. Name the folder of a recorded run, or a parent folder.")
        results += [take_in(store, folder) for folder in folders]
    return results


def journals(place: Path) -> list[Path]:
    """Return the journal folders in and below a folder."""
    place = place.expanduser().absolute()
    if place.name == LINES:
        place = place.parent
    if (place / LINES).is_file():
        return [place]
    return sorted(path.parent for path in place.glob(f"**/{PREFIX}*/{LINES}") if path.is_file())


def take_in(store: Store, folder: Path, expected: str = "", last: int | None = None) -> Taken:
    """Import the journal in a folder; with `expected`, only if it has this uid.

    Nothing is read if everything up to `last`, the number of its last line, is already stored.
    """
    before = after = 0
    run, without = "", frozenset[str]()
    try:
        uid = _uid_of(folder)
        if expected not in ("", uid):
            raise Damaged(f"This is journal {uid}, not {expected}.")
        before = after = next_record_number(store, uid)
        if last is not None and before > last:
            return Taken(folder, "", 0)
        lines = records.read_lines(folder / LINES)
        while part := list(islice(lines, AT_ONCE)):
            answer = take(store, uid, 0, part, without, is_alive=False)
            while answer.missing or answer.next < _end_of(part):
                without |= {name for name in answer.missing if not _give(store, folder, name)}
                answer = take(store, uid, 0, part, without, is_alive=False)
            after, run = answer.next, answer.run
    except (Damaged, Newer, StoreError) as error:
        return Taken(folder, run, after - before, str(error))
    except OSError as error:
        return Taken(folder, run, after - before, f"The journal cannot be read: {error.strerror}.")
    problem = f"{len(without)} images are missing or damaged." if without else None
    return Taken(folder, run, after - before, problem)


def _end_of(lines: list[bytes]) -> int:
    """Return the number after that of the last line; 0 if no line has a number."""
    for line in reversed(lines):
        if (number := records.number_of(line)) is not None:
            return number + 1
    return 0


def _uid_of(folder: Path) -> str:
    """Return the uid at the beginning of a journal, whose folder may have been renamed. Raises Damaged."""
    first = next(records.read_lines(folder / LINES), b"")
    _, record = records.from_line(first)
    if not isinstance(record, Begin):
        raise Damaged("The journal does not begin with the record `begin`.")
    return record.uid


def _give(store: Store, folder: Path, name: str) -> bool:
    """Store an image of the journal; return False if it is missing or damaged."""
    path = folder / IMAGES / name
    try:
        if not path.is_file() or path.stat().st_size > media.MOST_BYTES:
            return False
        data = path.read_bytes()
        is_it = media.inspect(data).sha256 == name
    except (FileNotFoundError, StoreError):
        return False
    if is_it:
        media.save(store.media, data)
    return is_it
