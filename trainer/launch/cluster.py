"""Configure the Ray cluster: its address, whether runs can go there, and its watcher process. Does not import Ray.

`trainer.launch.ray_jobs` talks to the cluster itself, in a separate process.
"""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from sqlalchemy import make_url

from store.db import ownership, private
from store.db.engine import MEDIA_VARIABLE, URL_VARIABLE, Store, sqlite_path
from trainer.launch import identity, local
from trainer.spec.config import ConfigError

ADDRESS = "VR1Z_RAY_ADDRESS"
"""Environment variable with the address of the cluster's Jobs API, for example http://127.0.0.1:8265."""
AUTHENTICATION = "RAY_AUTH_MODE"
"""Ray's own variable; `token` makes its clients send RAY_AUTH_TOKEN, or the content of RAY_AUTH_TOKEN_PATH."""
GPUS = "VR1Z_RAY_GPUS"
"""Environment variable with the number of GPUs per job; by default 1, and 0 for the embedded models."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
GRACE_SECONDS = 300
"""Seconds between Ray's SIGTERM and SIGKILL, in which a job can finish its step and save a checkpoint."""


def address() -> str | None:
    """Return the cluster's address, or None if none is configured and everything runs on this host."""
    return os.environ.get(ADDRESS) or None


def check(store: Store) -> str:
    """Return the cluster's address. Raises ConfigError if runs of this database cannot or must not go there."""
    cluster_address = address()
    if cluster_address is None:
        raise ConfigError(f"No Ray cluster is configured: set {ADDRESS}, for example to http://127.0.0.1:8265.")
    try:
        parts = urlsplit(cluster_address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https") or parts.username:
        raise ConfigError(f"{ADDRESS} must be the http address of Ray's dashboard, without a user name or password.")
    if host not in LOOPBACK and os.environ.get(AUTHENTICATION) != "token":
        raise ConfigError(
            f"{ADDRESS} is another machine, and anyone who reaches an open Jobs API can run code there. Start the "
            f"cluster and this process with {AUTHENTICATION}=token, or use a tunnel to 127.0.0.1."
        )
    if host not in LOOPBACK and sqlite_path(make_url(store.url)):
        raise ConfigError(f"{store.where} is a local file that jobs on {host} cannot reach: use PostgreSQL (--db URL).")
    gpus()
    if find_spec("ray") is None:
        raise ConfigError("Ray is not installed: run `pip install -r requirements-cluster.txt`.")
    return cluster_address


def gpus() -> float | None:
    """Return the number of GPUs per job, if the variable is set. Raises ConfigError."""
    text = os.environ.get(GPUS)
    try:
        number = float(text) if text else None
    except ValueError:
        number = -1.0
    if number is not None and not 0 <= number < math.inf:
        raise ConfigError(f"{GPUS} must be a number of GPUs, for example 1, or 0.5 for two jobs per GPU.")
    return number


def environment(store: Store) -> dict[str, str]:
    """Return the environment for a job to find the database, without the password: Ray shows it to all its users.

    A node gets the password like any client of PostgreSQL: from ~/.pgpass, or from PGPASSWORD when Ray is started.
    """
    # `set` leaves a part unchanged if it is None.
    url = make_url(store.url)._replace(password=None).difference_update_query(["password", "sslpassword"])
    return {
        URL_VARIABLE: url.render_as_string(hide_password=False),
        MEDIA_VARIABLE: str(store.media),
        "PYTHONPATH": str(local.ROOT),
        "RAY_JOB_STOP_WAIT_TIME_S": str(GRACE_SECONDS),
    }


def log_path(store: Store, run_uid: str, job_uid: str) -> Path:
    """Return the path of the local copy of a job's Ray log."""
    return ownership.folder_of(store, run_uid) / f"log-{job_uid}.txt"


def lock(store: Store) -> FileLock:
    """Return the lock of the process that watches the cluster for this host."""
    folder = private.lock_folder(local.data_folder(store))
    return FileLock(folder / f"ray-{identity.host()}.lock", mode=private.FILE)


def start_watcher(store: Store) -> None:
    """Start `python -m trainer ray` as an independent process, which exits if another holds the lock."""
    local.start_alone(store, "ray.log", "ray")


def is_watched(store: Store) -> bool:
    try:
        with lock(store).acquire(timeout=0):
            return False
    except Timeout:
        return True
