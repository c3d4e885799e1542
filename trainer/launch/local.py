"""Start, find and signal the processes of jobs and workers on this host. Never changes a job's state.

A job has its own session, no terminal and a log file, so it outlives the process that started it. No shell is used, and
no secret appears in argv.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil

from store.db import ownership, private
from store.db.engine import URL_VARIABLE, Store
from store.db.rows import JobRow
from trainer.launch import devices, identity
from trainer.launch.identity import Identity

JOB_VARIABLE = "VR1Z_JOB"
"""Environment variable that marks a job's process and all its descendants with the job's uid."""
_OUT_OF_REACH = (ProcessLookupError, PermissionError)
"""Raised for a process that has ended, or that belongs to another user; the latter reads requests in the database."""
ROOT = Path(__file__).resolve().parents[2]
"""Root folder of the project."""


def data_folder(store: Store) -> Path:
    """Return the folder for output folders, logs and locks."""
    return store.folder


def queue_lock(store: Store) -> Path:
    """Return the file that this host's worker locks as long as it lives."""
    return data_folder(store) / private.LOCKS / f"queue-{identity.host()}.lock"


def drains(store: Store, process: Identity) -> bool:
    """Return whether a live process of this host is the worker of this database: it has the queue's lock open.

    In a copied database, the worker is that of the original. The files of other users' processes cannot be seen; these
    count as workers. Processes that share a server need not share a folder, so that only the file's name counts there.
    """
    lock, is_file = Path(os.path.realpath(queue_lock(store))), store.file is not None
    try:
        found = [Path(each.path) for each in psutil.Process(process.pid).open_files()]
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False
    return lock in found if is_file else any(each.parts[-2:] == lock.parts[-2:] for each in found)


def log_path(store: Store, run_uid: str) -> Path:
    return ownership.folder_of(store, run_uid) / "log.txt"


def log_header(job_uid: str) -> str:
    """Return the line that begins a job's part of its run's log."""
    return f"=== job {job_uid} ==="


def command(*arguments: str) -> list[str]:
    """Return the command line of a trainer process."""
    return [sys.executable, "-m", "trainer", *arguments]


def start(store: Store, job: JobRow) -> subprocess.Popen[bytes]:
    """Start the process of a claimed job. Raises OSError if its log cannot be written."""
    log = log_path(store, job.run_uid)
    if not ownership.claim(store, job.run_uid, log.parent):
        raise PermissionError(errno.EACCES, f"{log.parent} belongs to another run, or to another database")
    with private.append(log) as stream:
        stream.write(f"{log_header(job.uid)}\n".encode())
    environment = _environment(store) | devices.environment(job.device) | {JOB_VARIABLE: job.uid}
    return _spawn(command("job", job.uid), log, environment)


def start_worker(store: Store) -> None:
    """Start `python -m trainer queue` as an independent process, which exits if another holds the lock."""
    start_alone(store, "queue.log", "queue")


def start_alone(store: Store, log: str, *arguments: str) -> None:
    """Start a trainer process that is not a job, with its output in a file next to the database.

    Raises OSError if that file cannot be written.
    """
    folder = data_folder(store)
    private.make_folder(folder)
    process = _spawn(command(*arguments), folder / log, _environment(store))
    # Collect its exit code, or it stays a zombie until this process ends.
    threading.Thread(target=process.wait, daemon=True).start()


def _spawn(argv: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with private.append(log) as stream:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )


def _environment(store: Store) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {URL_VARIABLE: store.url, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(paths)}


def terminate(process: Identity) -> None:
    """Send SIGTERM to a job's main process, which stops its own children."""
    with suppress(*_OUT_OF_REACH):
        if identity.is_alive(process):
            os.kill(process.pid, signal.SIGTERM)


def kill(process: Identity, job_uid: str) -> None:
    """Send SIGKILL to a job's process, its group and all its descendants."""
    with suppress(*_OUT_OF_REACH):
        if identity.is_alive(process):
            # A foreground job shares its session with a shell, which must not be killed.
            has_session = os.getsid(process.pid) == process.pid
            (os.killpg if has_session else os.kill)(process.pid, signal.SIGKILL)
    sweep(job_uid)


def kill_alone(process: Identity) -> bool:
    """Send SIGKILL to one process; its children survive. Return False if it belongs to another user."""
    try:
        if identity.is_alive(process):
            os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def find(job_uid: str) -> Identity | None:
    """Find the process of a job that has not reported it yet."""
    for process in _marked(job_uid):
        started_at = identity.start_time(process.pid)
        if started_at is not None and job_uid in _arguments(process):
            return Identity(identity.host(), identity.boot_id(), process.pid, started_at)
    return None


def sweep(job_uid: str) -> None:
    """Send SIGKILL to the remaining processes of a dead job, which would still hold device memory."""
    for process in _marked(job_uid):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _marked(job_uid: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _environment_of(process).get(JOB_VARIABLE) == job_uid]


def _environment_of(process: psutil.Process) -> dict[str, str]:
    """Return a process's environment; empty if it has ended or belongs to another user."""
    try:
        return process.environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return {}


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
