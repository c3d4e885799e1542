"""Supervise this host: close its dead jobs, and replace a worker that died or hangs.

If a Ray cluster is configured, also make sure that a process watches the jobs there.

The observer measures with its own monotonic clock how long the worker's heartbeat has not changed; this is not stored.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from store.db.engine import Store
from store.db.rows import WorkerRow
from store.db.states import JobState, Launcher
from store.jobs import get_worker, list_jobs
from trainer.launch import cluster, endings, identity, local
from trainer.launch.identity import Identity

FROZEN_SECONDS = 90.0
"""Seconds without a heartbeat; a worker beats every few, and waits at most half a minute for a locked database."""
RESTART_SECONDS = 10.0
"""Seconds between attempts to replace a worker that does not start."""


@dataclass
class Supervisor:
    """Remembers when the worker's heartbeat last changed; keep one instance and call `look` regularly."""

    store: Store
    _seen: tuple[int, int] | None = None
    _moved_at: float = -math.inf
    _started_at: float = -math.inf
    _cluster_at: float = -math.inf

    def look(self) -> list[str]:
        """Check once; return sentences on what was closed, killed or started."""
        return [*self._look_here(), *self._look_at_the_cluster()]

    def _look_here(self) -> list[str]:
        """Check this host. A live worker closes jobs itself, because only it learns their exit codes."""
        worker = get_worker(self.store, identity.host())
        is_alive = worker is not None and identity.is_alive(identity_of(worker))
        if worker is not None and is_alive and local.drains(self.store, identity_of(worker)):
            return self._end_frozen(worker)
        closed = endings.close_gone(self.store)
        jobs = list_jobs(self.store, open_only=True)
        queued = any(job.state == JobState.QUEUED and job.launcher == Launcher.LOCAL for job in jobs)
        # Only if there was a worker before: viewing a shared database must not make this host run its jobs, nor must
        # viewing a copy, which names the live worker of the original.
        if queued and worker is not None and not is_alive and time.monotonic() - self._started_at > RESTART_SECONDS:
            self._started_at = time.monotonic()
            local.start_worker(self.store)
            closed.append("The worker of this host had died; another was started.")
        return closed

    def _look_at_the_cluster(self) -> list[str]:
        jobs = list_jobs(self.store, open_only=True) if cluster.address() else []
        if not any(job.launcher == Launcher.RAY for job in jobs) or cluster.is_watched(self.store):
            return []
        if time.monotonic() - self._cluster_at < RESTART_SECONDS:
            return []
        self._cluster_at = time.monotonic()
        cluster.start_watcher(self.store)
        return ["Jobs on the Ray cluster were not being watched; a watcher was started."]

    def _end_frozen(self, worker: WorkerRow) -> list[str]:
        beat, now = (worker.pid, worker.heartbeat), time.monotonic()
        if beat != self._seen:
            self._seen, self._moved_at = beat, now
        if now - self._moved_at < FROZEN_SECONDS:
            return []
        self._moved_at = now
        silent = f"The worker of this host had no heartbeat for {FROZEN_SECONDS:g} s"
        if local.kill_alone(identity_of(worker)):
            return [f"{silent} and was killed; its jobs continue."]
        return [f"{silent}. It belongs to another user, who has to end process {worker.pid}."]


def worker_lives(store: Store) -> bool:
    """Return whether this host has a worker of this database."""
    worker = get_worker(store, identity.host())
    if worker is None or not identity.is_alive(identity_of(worker)):
        return False
    return local.drains(store, identity_of(worker))


def identity_of(worker: WorkerRow) -> Identity:
    return Identity(worker.host, worker.boot_id, worker.pid, worker.pid_started)
