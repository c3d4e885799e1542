"""How many threads a job computes with and how they wait, decided before torch, and with it OpenMP, is loaded.

OpenMP's threads spin while they wait for each other. Where another process is busy, a browser that looks at the run for
example, they spin for a thread that is not running: a GRPO step of the embedded model took three times as long. So
they sleep while they wait, and a model that is too small to gain from many gets few.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from trainer.spec.config import EMBEDDED

VARIABLE = "VR1Z_THREADS"
"""Number of threads of jobs whose run does not name its own (`optimization.threads`)."""
OPENMP = "OMP_NUM_THREADS"
ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""For GNU's and for Intel's OpenMP."""
SPARE_FROM = 4
"""From this number of processors on, one is left to the screen."""
MOST_FOR_EMBEDDED = 2
"""The embedded models' products are too small to gain from more."""


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count(config: Mapping[str, Any]) -> int:
    """Return the threads of each process of a run: as its configuration says, or the user, or by model and machine."""
    optimization, model = config.get("optimization") or {}, config.get("model") or {}
    asked = optimization.get("threads") or _number(VARIABLE) or _number(OPENMP)
    return asked or chosen(model.get("id"), processors(), optimization.get("processes") or 1)


def chosen(model: str | None, available: int, processes: int = 1) -> int:
    """Return the threads of each process of a run of this model where so many processors are there."""
    if model in EMBEDDED:
        # One each on two processors: two jobs, or a job and a browser, get on without waiting for each other.
        return min(MOST_FOR_EMBEDDED, max(1, available // 2))
    spare = available - 1 if available >= SPARE_FROM else available
    return max(1, spare // processes)


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None


def apply(config: Mapping[str, Any]) -> None:
    """Set this process's threads, and those of its children. Call it before torch is loaded; the user's words stay."""
    for name, value in ASLEEP.items():
        os.environ.setdefault(name, value)
    os.environ[OPENMP] = str(count(config))
