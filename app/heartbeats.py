"""Seconds since a job's heartbeat last changed, measured by this process: clocks of other hosts may be wrong.

Jobs on other hosts are judged by this alone, since their processes cannot be seen from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from store.db.rows import JobRow
from trainer.launch import identity


class HeartbeatMonitor:
    """Remembers when each heartbeat counter last changed, by this process's monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beats: dict[int, tuple[int, float]] = {}

    def update(self, jobs: Iterable[JobRow]) -> None:
        """Update from the open jobs, and forget all others."""
        now, earlier = self._clock(), self._beats
        beats = {}
        for job in jobs:
            counter, moved_at = earlier.get(job.id, (job.heartbeat, now))
            beats[job.id] = (job.heartbeat, moved_at if counter == job.heartbeat else now)
        self._beats = beats

    def seconds_since_beat(self, job_id: int | None, host: str | None) -> float | None:
        """Return seconds; None for an unknown job, or one on this host, which is judged by its process."""
        if host in (None, identity.host()) or job_id not in self._beats:
            return None
        return self._clock() - self._beats[job_id][1]


HEARTBEATS = HeartbeatMonitor()
"""This process's instance: updated by the server, read by the pages."""
