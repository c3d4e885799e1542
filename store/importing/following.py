"""Follow the files of another tool while it writes them, and import them again whenever they have changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from store.db.connection import StoreError
from store.db.engine import Store
from store.importing.saving import Followed, Report, import_runs

EVERY_SECONDS = 2.0
State = frozenset[tuple[str, int, int]]


def follow(store: Store, tool: str, path: str, name: str | None = None) -> Iterator[Report | StoreError]:
    """Yield a report for each import that changed something, without end; a persisting problem is yielded once.

    Files are compared every EVERY_SECONDS by size and time. Incomplete data is read again when it is complete, and
    imported data is kept when its files are removed or cut.
    """
    last_state: State | None = None
    last_problem = ""
    followed: Followed = {}
    while True:
        state = state_of(Path(path).expanduser())
        if state != last_state:
            last_state = state
            try:
                report = import_runs(store, tool, path, name, followed)
                last_problem = ""
                if any(run.is_new or run.changed for run in report.runs):
                    yield report
            except StoreError as error:
                if str(error) != last_problem:
                    last_problem = str(error)
                    yield error
        time.sleep(EVERY_SECONDS)


def state_of(place: Path) -> State:
    """Return the names, sizes and times of files, which show whether they have changed."""
    files = [place] if place.is_file() else place.rglob("*") if place.is_dir() else []
    files_seen = set()
    for file in files:
        try:
            facts = file.stat()
        except OSError:
            continue  # the file was just replaced
        if file.is_file():
            files_seen.add((str(file), facts.st_size, facts.st_mtime_ns))
    return frozenset(files_seen)
