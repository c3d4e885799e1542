"""The dashboard's surroundings: versions and disk from this process, devices from one that may load torch."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from store.db.redaction import redact

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT = 60
"""Time limit of that process, in seconds."""
PACKAGES = (
    *("streamlit", "plotly", "SQLAlchemy", "torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes"),
    "sentence-transformers",
)


class Device(NamedTuple):
    """A GPU; memory in bytes."""

    name: str
    total: int
    free: int


class Devices(NamedTuple):
    """The devices that torch finds; `problem` is a sentence if they could not be determined."""

    gpus: tuple[Device, ...]
    cuda: str | None
    threads: int
    problem: str | None = None


def versions() -> dict[str, str]:
    """Return the versions of Python and of packages that affect results, without importing them."""
    return {"Python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def disk(folder: Path) -> tuple[int, int]:
    """Return free and total bytes of the disk that holds a folder."""
    usage = shutil.disk_usage(folder)
    return usage.free, usage.total


def devices(command: tuple[str, ...] = (sys.executable, "-m", "trainer")) -> Devices:
    """Run `python -m trainer machine`; any failure becomes the problem."""
    try:
        done = subprocess.run(
            [*command, "machine", "--json"], cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
        )
        report = json.loads(done.stdout)
        gpus = tuple(Device(str(each["name"]), int(each["total"]), int(each["free"])) for each in report["devices"])
        return Devices(gpus, report["cuda"], int(report["threads"]))
    except subprocess.TimeoutExpired:
        return Devices((), None, 0, f"The trainer did not report its devices within {TIME_LIMIT} s: reload the page.")
    except (ValueError, KeyError, TypeError):
        last = redact((done.stderr.strip().splitlines() or ["it printed no error"])[-1])
        return Devices((), None, 0, f"The trainer could not report its devices: {last}")
