"""Find a host's devices and assign each job its own. Uses the driver's tool, because the dashboard has no torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterable
from functools import cache

import psutil

from trainer.launch.threads import processors

VARIABLE = "VR1Z_DEVICES"
"""Environment variable that overrides the devices found: `0,1`, or `cpu` for one job at a time without a GPU."""
CUDA = "CUDA_VISIBLE_DEVICES"
MEMORY_OF_A_JOB = 3 * 2**30
"""Bytes of memory that each concurrent job of an embedded model needs."""
_ASK = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
_SECONDS = 10


def host_devices() -> tuple[str, ...]:
    """Return this host's devices: the GPUs that the environment makes visible, by index or uuid, or else `cpu`."""
    chosen = os.environ.get(VARIABLE) or os.environ.get(CUDA)
    names = _gpus() if chosen is None else tuple(name.strip() for name in chosen.split(","))
    return tuple(name for name in names if name not in ("", "-1")) or ("cpu",)


def places(threads: Iterable[int]) -> tuple[str, ...]:
    """Return the devices that jobs with these numbers of threads may hold at the same time on this host.

    Without GPUs, memory limits the number of concurrent jobs, and so do the processors, given the largest number of
    threads: on two processors, two concurrent jobs of one thread end earlier than two successive jobs of two threads.
    """
    devices = host_devices()
    if devices != ("cpu",) or VARIABLE in os.environ:
        return devices
    by_memory = int(psutil.virtual_memory().total // MEMORY_OF_A_JOB)
    at_once = min(processors() // max(threads, default=1), by_memory)
    return "cpu", *(f"cpu-{number}" for number in range(2, at_once + 1))


def pin(count: int = 1, used: Collection[str] = ()) -> str | None:
    """Make only `count` GPUs visible to this process, free ones first. Return their names, or None without GPUs.

    Call it before torch looks for GPUs, because TRL does not train in a single process that sees several.
    """
    devices = host_devices()
    if all(name.startswith("cpu") for name in devices):
        return None
    chosen = ",".join(sorted(devices, key=lambda name: name in used)[:count])
    os.environ.update(environment(chosen))
    return chosen


def environment(device: str | None) -> dict[str, str]:
    """Return environment variables that make only its device visible to a job's process."""
    if device is None or device.startswith("cpu"):
        return {}
    # A worker that the job starts must see all devices again.
    return {CUDA: device, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", VARIABLE: ",".join(host_devices())}


@cache
def _gpus() -> tuple[str, ...]:
    try:
        output = subprocess.run(_ASK, capture_output=True, text=True, timeout=_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(output.split())
