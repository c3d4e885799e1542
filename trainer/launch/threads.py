"""Choose how many threads a job uses and how they wait, before torch, and OpenMP with it, is loaded.

By default, OpenMP's threads spin while they wait for each other. If another process is busy, such as a browser that
shows the run, they spin for a thread that is not scheduled: a GRPO step of the embedded model took three times as long.
So threads sleep while they wait, and models that are too small to profit from many threads get few.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from trainer.spec.config import EMBEDDED

VARIABLE = "VR1Z_THREADS"
"""Environment variable with the number of threads for runs without `optimization.threads`."""
OPENMP = "OMP_NUM_THREADS"
ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Settings for GNU's and Intel's OpenMP."""
SPARE_FROM = 4
"""With this many processors or more, one is left to the dashboard."""
MOST_FOR_EMBEDDED = 2
"""Most threads for embedded models, whose matrices are too small to profit from more."""


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count(config: Mapping[str, Any]) -> int:
    """Return the threads per process of a run: from its configuration, from THREADS, or by model and machine."""
    optimization, model = config.get("optimization") or {}, config.get("model") or {}
    configured = optimization.get("threads") or _number(VARIABLE) or _number(OPENMP)
    return configured or chosen(model.get("id"), processors(), optimization.get("processes") or 1)


def chosen(model: str | None, available: int, processes: int = 1) -> int:
    """Return the threads per process for this model and this number of available processors."""
    if model in EMBEDDED:
        # One thread on two processors: two jobs, or a job and a browser, do not have to wait for each other.
        return min(MOST_FOR_EMBEDDED, max(1, available // 2))
    spare = available - 1 if available >= SPARE_FROM else available
    return max(1, spare // processes)


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None


def apply(config: Mapping[str, Any]) -> None:
    """Set the threads of this process and its children, unless the user did so. Call it before torch is loaded."""
    for name, value in ASLEEP.items():
        os.environ.setdefault(name, value)
    os.environ[OPENMP] = str(count(config))
