"""Take in journals that scripts left on this machine: those whose run is known, and those in folders that are swept.

A journal says itself where it lies. Its word is checked: a regular file of this account, beginning with the same uid.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from store.db.connection import Store, reading
from store.db.private import IS_POSIX
from store.db.rows import JobRow
from store.db.schema import Job, Journal
from store.db.states import OPEN
from store.recording import folders, records
from store.recording.folders import Taken
from store.recording.intake import DELETED
from store.recording.records import LINES, PREFIX, Damaged, End, Newer

VARIABLE = "VR1Z_JOURNALS"
"""Folders that are swept, by the system's separator of paths; else `vr1z-journals` here and beside the database."""
NAME = "vr1z-journals"
NEWEST = 500
"""Jobs whose journals are looked at."""
QUIET_SECONDS = 60.0
"""How long nothing was written to a journal of an unknown script that is taken for left behind."""


def swept(store: Store) -> list[Path]:
    """Return the folders below which journals are looked for."""
    named = [Path(name).expanduser() for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    return named or [Path.cwd() / NAME, store.folder / NAME]


@dataclass
class Sweep:
    """Takes in what is new since it looked last; keep one to look regularly."""

    store: Store
    host: str
    """The name of this machine, as scripts know it."""
    _sizes: dict[Path, int] = field(default_factory=dict)
    """Bytes of each journal when it was taken in."""

    def look(self) -> list[Taken]:
        """Look once; return what each journal added, or why it could not be taken in. Raises StoreError."""
        found = {folder: uid for uid, folder in self._known()}
        quiet = {folder: "" for place in swept(self.store) for folder in folders.journals(place) if _is_quiet(folder)}
        return [taken for folder, uid in {**quiet, **found}.items() if (taken := self._take(folder, uid))]

    def _known(self) -> Iterator[tuple[str, Path]]:
        """Yield the journals of jobs that have ended here, newest first, with their uids."""
        ended = (Job.host == self.host, Job.state.not_in(OPEN))
        statement = select(Journal.uid, Job.arguments).join(Job, Job.id == Journal.job_id).where(*ended)
        with reading(self.store) as connection:
            rows = connection.execute(statement.order_by(Job.id.desc()).limit(NEWEST)).all()
        for uid, arguments in rows:
            if (place := _place_of(uid, arguments)) is not None:
                yield uid, place

    def _take(self, folder: Path, uid: str) -> Taken | None:
        size = _size_of(folder / LINES)
        if size is None or self._sizes.get(folder) == size:
            return None
        last = records.last_number(folder / LINES)
        taken = None if last is None else folders.take_in(self.store, folder, uid, last)
        self._sizes[folder] = size
        return taken if taken and (taken.new or taken.problem) and taken.problem != DELETED else None


def last_word(store: Store, job: JobRow) -> End | None:
    """Return how the script of a job of this machine says that it ended, if its journal ends with that; else None."""
    with reading(store) as connection:
        uid = connection.scalar(select(Journal.uid).where(Journal.job_id == job.id))
    place = None if uid is None else _place_of(uid, job.arguments)
    if place is None or _size_of(place / LINES) is None:
        return None
    try:
        _, record = records.from_line(records.last_line(place / LINES) or b"")
    except (OSError, Damaged, Newer):
        return None
    return record if isinstance(record, End) else None


def _place_of(uid: str, arguments: Any) -> Path | None:
    """Return where a journal says that it lies, if it can be true."""
    place = arguments.get("journal") if isinstance(arguments, dict) else None
    if not isinstance(place, str) or not os.path.isabs(place) or Path(place).name != f"{PREFIX}{uid}":
        return None
    return Path(place)


def _size_of(path: Path) -> int | None:
    """Return the bytes of a journal; None unless it is a regular file of this account."""
    try:
        facts = path.lstat()
    except (OSError, ValueError):
        return None
    is_own = not IS_POSIX or facts.st_uid == os.geteuid()
    return facts.st_size if stat.S_ISREG(facts.st_mode) and is_own else None


def _is_quiet(folder: Path) -> bool:
    try:
        return time.time() - (folder / LINES).stat().st_mtime > QUIET_SECONDS
    except OSError:
        return False


def added(found: Sequence[Taken]) -> list[str]:
    """Return a sentence for each journal that added something, or could not be taken in."""
    return [
        f"{taken.folder}: {taken.problem}"
        if taken.problem
        else f"{taken.new:,} records that a script left in {taken.folder} are here now."
        for taken in found
    ]
