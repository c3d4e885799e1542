"""Devices of a host: each job has one to itself. Found with the driver's own tool, since the dashboard has no torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterable
from functools import cache

import psutil

from trainer.launch.threads import processors

VARIABLE = "VR1Z_DEVICES"
"""Replaces what was found, for example by `0,1` or, for one job at a time without a GPU, by `cpu`."""
CUDA = "CUDA_VISIBLE_DEVICES"
MEMORY_OF_A_JOB = 3 * 2**30
"""Bytes of memory that the machine must have for each job of the embedded model that runs at once."""
_ASK = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
_SECONDS = 10


def here() -> tuple[str, ...]:
    """Return this host's devices: GPUs by index or uuid, as far as the environment shows them, else `cpu`."""
    chosen = os.environ.get(VARIABLE) or os.environ.get(CUDA)
    found = _gpus() if chosen is None else tuple(name.strip() for name in chosen.split(","))
    return tuple(name for name in found if name not in ("", "-1")) or ("cpu",)


def places(threads: Iterable[int]) -> tuple[str, ...]:
    """Return the devices that jobs with these numbers of threads may hold at once on this host.

    Without GPUs, as many jobs run at once as there are processors for the threads of the widest, and memory for all: on
    two processors, two jobs of one thread end earlier than one after the other with two threads.
    """
    found = here()
    if found != ("cpu",) or VARIABLE in os.environ:
        return found
    by_memory = int(psutil.virtual_memory().total // MEMORY_OF_A_JOB)
    at_once = min(processors() // max(threads, default=1), by_memory)
    return "cpu", *(f"cpu-{number}" for number in range(2, at_once + 1))


def pin(count: int = 1, taken: Collection[str] = ()) -> str | None:
    """Let this process see only `count` GPUs, free ones first; return their names, or None without GPUs.

    Call it before torch looks for them: TRL refuses to train in one process that sees several.
    """
    found = here()
    if all(name.startswith("cpu") for name in found):
        return None
    chosen = ",".join(sorted(found, key=lambda name: name in taken)[:count])
    os.environ.update(environment(chosen))
    return chosen


def environment(device: str | None) -> dict[str, str]:
    """Return the environment in which a job's process sees only its device."""
    if device is None or device.startswith("cpu"):
        return {}
    # A worker that the job may have to start must see all devices again.
    return {CUDA: device, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", VARIABLE: ",".join(here())}


@cache
def _gpus() -> tuple[str, ...]:
    try:
        said = subprocess.run(_ASK, capture_output=True, text=True, timeout=_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(said.split())
