"""When a script fell silent: its recorder calls every two seconds, whatever its training does."""

from __future__ import annotations

import time

from store.db.rows import RunRow
from store.db.states import ACTIVE
from store.recording.records import RECORDED

SILENT_SECONDS = 60.0
HINT = "Take in what a silent script did not deliver, where the database is: python -m store sync FOLDER"


def silent_since(run: RunRow, now: float) -> float | None:
    """Return when the script of a run that counts as active was last heard of, if that is too long ago; else None.

    Whether it was killed is known on its own machine alone; one that was cut off may come back.
    """
    if run.dataset != RECORDED or run.status not in ACTIVE or run.spoke_at is None:
        return None
    return run.spoke_at if now - run.spoke_at > SILENT_SECONDS else None


def in_words(since: float) -> str:
    return f"silent since {time.strftime('%Y-%m-%d %H:%M', time.gmtime(since))} UTC"
