"""Identify processes by host, boot, pid and start time, because pids are reused."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import NamedTuple

import psutil

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_CREATE_TIME_TOLERANCE = 1.0


class Identity(NamedTuple):
    """Identifies a process uniquely."""

    host: str
    boot_id: str | None
    """None on systems other than Linux."""
    pid: int
    started: float | None
    """Start time: clock ticks since boot on Linux, psutil's create time in seconds elsewhere."""


def host() -> str:
    return socket.gethostname()


def boot_id() -> str | None:
    return _BOOT.read_text().strip() if _BOOT.exists() else None


def current() -> Identity:
    """Return the identity of this process."""
    pid = os.getpid()
    return Identity(host(), boot_id(), pid, start_time(pid))


def start_time(pid: int) -> float | None:
    """Return when a process of this host started; None if it has ended or is a zombie."""
    if _BOOT.exists():
        return _start_ticks(pid)
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def _start_ticks(pid: int) -> float | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may itself contain spaces and parentheses.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in ("Z", "X") else float(fields[18])


def is_alive(identity: Identity) -> bool:
    """Return whether exactly this process is running. Processes of other hosts cannot be checked and count as alive."""
    if identity.host != host():
        return True
    if identity.boot_id != boot_id():
        return False
    now = start_time(identity.pid)
    if now is None or identity.started is None:
        return False
    tolerance = 0.0 if _BOOT.exists() else _CREATE_TIME_TOLERANCE
    return abs(now - identity.started) <= tolerance
