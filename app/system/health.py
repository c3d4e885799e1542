"""Problems of this machine and database, with what to do. Pure functions of facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.shared import format
from app.system.machine import Devices
from store.care.orphans import Orphans
from store.care.state import DatabaseState

LITTLE_DISK = 5 * 1024**3
LARGE_LOG = 256 * 1024**2
HALF_EMPTY = 0.5
LEAST_SIZE = 100 * 1024**2
"""Bytes of unused space in a database from which on it is reported."""
LARGE_ORPHANS = 500 * 1024**2
"""Bytes of orphans from which on they are reported."""


class Work(NamedTuple):
    """Open jobs and the workers; `dead` names hosts whose worker has exited, as seen from here."""

    queued: int
    active: int
    dead: Sequence[str]
    silent: Sequence[str]
    """Runs of other hosts whose heartbeat has stopped."""


def advice(state: DatabaseState, free: int, work: Work, orphans: Orphans | None, webhook: str | None) -> list[str]:
    """Return a sentence for each problem, most serious first; `free` is in bytes, `webhook` is its problem."""
    sentences = [*_disk(free), *_database(state), *_work(work)]
    if webhook:
        sentences.append(webhook)
    if orphans and orphans.size > LARGE_ORPHANS:
        sentences.append(f"{format.memory(orphans.size)} are used by data that no run needs: remove it below.")
    return sentences


def of_devices(devices: Devices) -> str | None:
    """Return a sentence for each problem of the devices that torch finds."""
    if devices.cuda and not devices.gpus:
        return f"PyTorch was built for CUDA {devices.cuda}, but no GPU is found: check the driver."
    return devices.problem


def _disk(free: int) -> list[str]:
    if free >= LITTLE_DISK:
        return []
    return [f"Only {format.memory(free)} of disk space are free: free some, since a run that cannot save stops."]


def _database(state: DatabaseState) -> list[str]:
    sentences = []
    if state.mode not in (None, "wal"):
        sentences.append(
            f"The database is in {state.mode} mode, where readers and writers block each other: "
            "move it to a local disk."
        )
    if (state.log_size or 0) > LARGE_LOG:
        sentences.append(
            f"The write-ahead log has grown to {format.memory(state.log_size)} because a program keeps the database "
            "open for reading: close it, or restart the dashboard."
        )
    if state.size and state.free is not None and state.size > LEAST_SIZE and state.free > HALF_EMPTY * state.size:
        sentences.append(
            f"{format.memory(state.free)} of the database file are unused: back up and restore to shrink it."
        )
    return sentences


def _work(work: Work) -> list[str]:
    sentences = []
    if work.queued and not work.active and work.dead:
        hosts = ", ".join(work.dead)
        queued = f"{format.pluralize(work.queued, 'job')} {'is' if work.queued == 1 else 'are'} queued"
        sentences.append(f"{queued}, but the worker on {hosts} has exited: see queue.log beside the database.")
    sentences += [f"{name} has stopped reporting: check its host and its log." for name in work.silent]
    return sentences
