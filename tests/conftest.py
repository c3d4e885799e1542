"""What every test starts from: no network, no settings of the developer's own, one thread a process."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# Before torch, transformers or Streamlit are imported, and for every process that a test starts.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
    VR1Z_DEVICES="cpu",  # one job at a time, on however many processors
    STREAMLIT_BROWSER_GATHER_USAGE_STATS="false",
)

# A machine that is busy with something else is slow, not wrong.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

ALONE = ("tests/e2e/", "tests/launch/test_ray.py")


class OneAtATime(LoadScopeScheduling):
    """Give the tests of each place in ALONE to one worker: two browsers or two clusters would starve each other.

    pytest-xdist 3.8's own groups have no effect under pytest 9.2, whose items ignore the changed `_nodeid`.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((place for place in ALONE if nodeid.startswith(place)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneAtATime:
    return OneAtATime(config, log)


def pytest_collection_finish() -> None:
    """Keep what was imported from the garbage collector, as the server does: Streamlit collects after every run."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the shell do not reach a test."""
    for name in [name for name in os.environ if name.startswith("VR1Z_") and name != "VR1Z_DEVICES"]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """A connection that leaves this machine is an error, not a slow test."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address[0]}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_here)
        yield
