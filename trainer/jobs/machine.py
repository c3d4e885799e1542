"""Measure the machine of a job every few seconds. Never raises into the job.

The processor is read with psutil, and the NVIDIA GPUs that the job may use with the driver's `nvidia-smi`.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from typing import Any, Self

import psutil

from store.db.engine import Store
from store.surroundings.machine import add_samples
from trainer.jobs.repeating import Repeating

logger = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
SMI_SECONDS = 5.0
CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
"""Linux's names for processors' temperature sensors."""
ASKED = {"utilization.gpu": "use", "memory.used": "memory", "power.draw": "power", "temperature.gpu": "temperature"}
"""Queries for `nvidia-smi`, and our names for the results."""
UNITS = {"use": 0.01, "memory": 2.0**20}
"""Factors for its numbers: percent to fractions, MiB to bytes; W and °C are kept."""


class Machine(Repeating):
    """Takes measurements while entered."""

    def __init__(self, store: Store, run_id: int, *, every: float = EVERY_SECONDS) -> None:
        super().__init__(every)
        self.store = store
        self.run_id = run_id
        self._job = psutil.Process()
        self._smi = shutil.which("nvidia-smi")
        self._before = (time.monotonic(), self._seconds()[0])

    def __enter__(self) -> Self:
        psutil.cpu_percent(None)  # the first call begins the interval for the next
        return super().__enter__()

    def look(self) -> None:
        try:
            add_samples(self.store, self.run_id, time.time(), self.read())
        except Exception as error:
            logger.warning("The machine could not be measured (%s). The job continues.", error)

    def read(self) -> dict[str, float]:
        """Return present values; rates are over the time since the last call."""
        (then, spent), now = self._before, time.monotonic()
        seconds, resident = self._seconds()
        self._before = (now, seconds)
        memory = psutil.virtual_memory()
        readings = {
            "cpu": max(0.0, seconds - spent) / max(now - then, 1e-3),
            "cpu/machine": psutil.cpu_percent(None) / 100,
            "memory": float(resident),
            "memory/machine": memory.percent / 100,
        }
        if (warmth := _temperature()) is not None:
            readings["cpu/temperature"] = warmth
        return readings | (_gpus(self._smi) if self._smi else {})

    def _seconds(self) -> tuple[float, int]:
        """Return the processor time of the job's processes in seconds and their resident memory in bytes."""
        seconds, resident = 0.0, 0
        for process in (self._job, *self._job.children(recursive=True)):
            try:
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info()
            except psutil.NoSuchProcess:
                continue
            # The time of an ended child is in its parent's `children_…`, so that nothing is lost or counted twice.
            seconds += times.user + times.system + times.children_user + times.children_system
            resident += memory.rss
        return seconds, resident


def _temperature() -> float | None:
    """Return the temperature of the processor in °C, if the system reports it."""
    sensors: dict[str, Any] = getattr(psutil, "sensors_temperatures", dict)()
    return max((each.current for chip in CHIPS for each in sensors.get(chip, ())), default=None)


def _gpus(smi: str) -> dict[str, float]:
    """Return use, memory, power and temperature of each GPU that the job may use, numbered as the job sees them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = [f"--id={visible}"] if visible else []
    if visible == "":
        return {}
    command = [smi, f"--query-gpu=index,{','.join(ASKED)}", "--format=csv,noheader,nounits", *chosen]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=SMI_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parse(result.stdout) if result.returncode == 0 else {}


def parse(text: str) -> dict[str, float]:
    """Parse the lines of `nvidia-smi`; values that a GPU does not report (`[N/A]`) are left out."""
    readings: dict[str, float] = {}
    for line in text.splitlines():
        index, *values = [part.strip() for part in line.split(",")]
        for name, value in zip(ASKED.values(), values, strict=False):
            try:
                readings[f"gpu{int(index)}/{name}"] = float(value) * UNITS.get(name, 1.0)
            except ValueError:
                continue
    return readings
