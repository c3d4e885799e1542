"""Determine the resources that a run's jobs request from the cluster. A process with torch makes the estimate."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from trainer.launch import cluster, local
from trainer.spec.config import EMBEDDED

ESTIMATE_SECONDS = 120


class Need(NamedTuple):
    """Resources of a job; `memory` is main memory in bytes, or None without an estimate."""

    gpus: float
    memory: int | None

    def __str__(self) -> str:
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        memory = f", {self.memory / 2**30:.1f} GiB of memory" if self.memory else ""
        return f"1 CPU{gpus}{memory}"


def need(config: dict[str, Any], memory: dict[str, Any] | None) -> Need:
    """Return a run's needs from its configuration and the `memory` of its preflight. Raises ConfigError."""
    model = config.get("model")
    is_embedded = isinstance(model, dict) and model.get("id") in EMBEDDED
    configured_gpus = cluster.gpus()
    processes = float(config.get("optimization", {}).get("processes", 1))
    gpus = (0.0 if is_embedded else processes) if configured_gpus is None else configured_gpus
    if memory is None:
        return Need(gpus, None)
    # On a GPU node, the weights pass through main memory.
    each = sum(memory["parts"][part] for part in ("weights", "runtime")) if gpus else memory["peak"]
    return Need(gpus, int(processes) * each)


def estimate(config: dict[str, Any]) -> dict[str, Any] | None:
    """Return the `memory` of a preflight, or None if it takes longer than ESTIMATE_SECONDS or fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = local.command("preflight", "--config", str(path), "--json")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=ESTIMATE_SECONDS, cwd=local.ROOT)
            memory = json.loads(done.stdout).get("memory")
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
    return dict(memory) if memory else None
