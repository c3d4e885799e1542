"""A real Ray cluster of one node for tests, reachable from this machine with a token only."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

import psutil

PATIENCE = 120.0
CPUS = 2
START_SECONDS = 20
"""After which Ray gives up on a job that finds no room; its own default is a quarter of an hour."""


class Cluster(NamedTuple):
    address: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """What a client of it has in its environment."""
        return {"VR1Z_RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster that ends with the block, and all its processes with it."""
    api, agent, client = free_ports(3)
    found = Cluster(f"http://127.0.0.1:{api}", secrets.token_hex(16))
    # Sockets have short names: pytest's folders are too deep.
    folder = tempfile.mkdtemp(prefix="vr1z-ray-")
    ports = {"--dashboard-port": api, "--dashboard-agent-listen-port": agent, "--ray-client-server-port": client}
    drawn = {"--port": 0, "--min-worker-port": 0, "--max-worker-port": 0}
    size = {"--num-cpus": CPUS, "--num-gpus": 0, "--object-store-memory": 80_000_000}
    places = {"--node-ip-address": "127.0.0.1", "--dashboard-host": "127.0.0.1", "--temp-dir": folder}
    options = [str(word) for pair in (places | ports | drawn | size).items() for word in pair]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *options]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_JOB_START_TIMEOUT_SECONDS": str(START_SECONDS)}
    closed = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": found.token}
    with open(os.path.join(folder, "head.txt"), "wb") as said:
        head = subprocess.Popen(
            command, env=os.environ | quiet | closed, stdout=said, stderr=said, start_new_session=True
        )
    try:
        wait_until_it_answers(found, head)
        yield found
    finally:
        end(head, folder)


def wait_until_it_answers(found: Cluster, head: subprocess.Popen[bytes]) -> None:
    request = urllib.request.Request(f"{found.address}/api/jobs/", headers={"Authorization": f"Bearer {found.token}"})
    deadline = time.monotonic() + PATIENCE
    while True:
        assert head.poll() is None and time.monotonic() < deadline, "the cluster did not start"
        try:
            with urllib.request.urlopen(request, timeout=10):
                return
        except OSError:
            time.sleep(0.2)


def end(head: subprocess.Popen[bytes], folder: str) -> None:
    """Kills the head and all that descends from it."""
    processes = psutil.Process(head.pid).children(recursive=True)
    for process in (*processes, head):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    head.wait()
    psutil.wait_procs(processes, timeout=30)
    shutil.rmtree(folder, ignore_errors=True)


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]
