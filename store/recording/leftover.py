"""Import journals that scripts left on this machine: those of known runs, and those in watched folders.

A run's recorded journal path is checked: it must be a regular file of this user that begins with the same uid.
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
"""Environment variable with the watched folders, separated as in PATH; default: `vr1z-journals` here and next to the
database."""
NAME = "vr1z-journals"
NEWEST = 500
"""Most jobs whose journals are checked."""
QUIET_SECONDS = 60.0
"""Time without a write after which the journal of an unknown script counts as left behind."""


def journal_folders(store: Store) -> list[Path]:
    """Return the folders in which journals are searched."""
    configured = [Path(name).expanduser() for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    return configured or [Path.cwd() / NAME, store.folder / NAME]


@dataclass
class JournalSweep:
    """Imports what is new since its last look; keep one instance and call `look` regularly."""

    store: Store
    host: str
    """The name of this machine, as scripts record it."""
    _sizes: dict[Path, int] = field(default_factory=dict)
    """Size of each journal in bytes when it was imported."""

    def look(self) -> list[Taken]:
        """Check once; return what each journal added, or why it could not be imported. Raises StoreError."""
        open_journals = {folder: uid for uid, folder in self._known()}
        quiet = {
            folder: ""
            for place in journal_folders(self.store)
            for folder in folders.journals(place)
            if _is_quiet(folder)
        }
        return [result for folder, uid in {**quiet, **open_journals}.items() if (result := self._take(folder, uid))]

    def _known(self) -> Iterator[tuple[str, Path]]:
        """Yield the uids and journals of jobs that have ended on this machine, newest first."""
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
        result = None if last is None else folders.take_in(self.store, folder, uid, last)
        self._sizes[folder] = size
        return result if result and (result.new or result.problem) and result.problem != DELETED else None


def last_word(store: Store, job: JobRow) -> End | None:
    """Return how the script of a job on this machine ended, if that is the last record of its journal; else None."""
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
    """Return the recorded path of a journal, if it is plausible."""
    place = arguments.get("journal") if isinstance(arguments, dict) else None
    if not isinstance(place, str) or not os.path.isabs(place) or Path(place).name != f"{PREFIX}{uid}":
        return None
    return Path(place)


def _size_of(path: Path) -> int | None:
    """Return the size of a journal in bytes; None unless it is a regular file of this user."""
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


def summarize_results(results: Sequence[Taken]) -> list[str]:
    """Return a sentence for each journal that added something or could not be imported."""
    return [
        f"{result.folder}: {result.problem}"
        if result.problem
        else f"Imported {result.new:,} records that a script left in {result.folder}."
        for result in results
    ]
