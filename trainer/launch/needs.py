"""What a run's jobs ask of a node of a cluster. Knows no cluster; the estimate is made in a process that has torch."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from trainer.launch import cluster, local
from trainer.spec.config import TINY

ESTIMATE_SECONDS = 120


class Need(NamedTuple):
    """What a job asks for; `memory` is the node's, in bytes, and None where nobody could estimate it."""

    gpus: float
    memory: int | None

    def __str__(self) -> str:
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        memory = f", {self.memory / 2**30:.1f} GiB of memory" if self.memory else ""
        return f"1 CPU{gpus}{memory}"


def need(config: dict[str, Any], memory: dict[str, Any] | None) -> Need:
    """By a run's configuration and the `memory` of its preflight. Raises ConfigError."""
    model = config.get("model")
    is_tiny = isinstance(model, dict) and model.get("id") == TINY
    asked = cluster.gpus()
    processes = float(config.get("optimization", {}).get("processes", 1))
    gpus = (0.0 if is_tiny else processes) if asked is None else asked
    if memory is None:
        return Need(gpus, None)
    # Beside a GPU a node's memory holds the weights on their way there.
    each = sum(memory["parts"][part] for part in ("weights", "runtime")) if gpus else memory["peak"]
    return Need(gpus, int(processes) * each)


def estimate(config: dict[str, Any]) -> dict[str, Any] | None:
    """The `memory` of a preflight; None if none could be made, in ESTIMATE_SECONDS at most."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = local.command("preflight", "--config", str(path), "--json")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=ESTIMATE_SECONDS, cwd=local.ROOT)
            found = json.loads(done.stdout).get("memory")
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
    return dict(found) if found else None
