"""Keep records in a file, one per line, until the database accepts them.

Lines have the format of a journal (`docs/journal.md`), without numbers.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from store.db import private
from store.recording import records
from store.recording.records import Damaged, EventRecord, StepRecord

NAME = "unwritten.jsonl"
MOST_BYTES = 32 * 2**20
"""Most bytes of lines kept in memory if the file cannot be written either."""


@dataclass
class Spool:
    """A file of pending records. A kill loses at most the line that was being written.

    One thread may call `add` while another calls `waiting` and `forget`.
    """

    path: Path
    lost: int = 0
    """Number of records dropped, or damaged in the file, since this was last set to 0."""
    _held: deque[str] = field(default_factory=deque)
    """Lines not yet on disk."""
    _size: int = 0
    _read: int = 0
    """Number of bytes of the file whose records have been passed on."""
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    @property
    def is_waiting(self) -> bool:
        return bool(self._held) or self.path.exists()

    def add(self, record: StepRecord | EventRecord) -> None:
        """Add a record. If the file cannot be written, keep it in memory; if that is full, drop the oldest."""
        line = records.to_line(record) + "\n"
        with self._lock:
            self._held.append(line)
            self._size += len(line)
            try:
                self._write("".join(self._held).encode("ascii"))
            except OSError:
                while self._size > MOST_BYTES:
                    self._size -= len(self._held.popleft())
                    self.lost += 1
            else:
                self._held.clear()
                self._size = 0

    def _write(self, data: bytes) -> None:
        """Write all of the data, or nothing. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        private.make_file(self.path)
        with self.path.open("ab+", buffering=0) as file:
            whole = file.seek(0, os.SEEK_END)
            if whole:
                file.seek(whole - 1)
                data = data if file.read(1) == b"\n" else b"\n" + data  # a killed writer left an incomplete line
            try:
                while data:
                    data = data[file.write(data) :]
            except OSError:
                file.truncate(whole)
                raise

    def waiting(self) -> Iterator[StepRecord | EventRecord]:
        """Yield records, oldest first, without damaged ones; each counts as passed on when the next is requested."""
        with self._lock:
            size = self.path.stat().st_size if self.path.exists() else 0
        if size:
            with self.path.open("rb") as file:
                file.seek(self._read)
                while file.tell() < size:
                    line = file.readline()
                    try:
                        if line.strip():
                            yield _record(line)
                    except Damaged:
                        self.lost += 1
                    self._read = file.tell()
        while self._held:
            yield _record(self._held[0])
            with self._lock:
                self._size -= len(self._held.popleft())

    def forget(self) -> None:
        """Remove records that were passed on. Raises OSError."""
        with self._lock:
            if not self._read:
                return
            with self.path.open("rb") as file:
                file.seek(self._read)
                left = file.read()
            if left:
                new = self.path.with_name(f"{self.path.name}.new")
                private.make_file(new)
                new.write_bytes(left)
                new.replace(self.path)
            else:
                self.path.unlink(missing_ok=True)
            self._read = 0


def _record(line: bytes | str) -> StepRecord | EventRecord:
    """Parse a line. Raises Damaged."""
    _, record = records.from_line(line)
    if not isinstance(record, StepRecord | EventRecord):
        raise Damaged("A run's spool holds only steps and events.")
    return record
