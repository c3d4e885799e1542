"""Write lock files with hashes for this platform: `python -m scripts.lock [REPORT.json]`.

Each requirements file gets a lock of everything that it adds to the files before it, except PyTorch and the CUDA
libraries of some of its builds, because the machine's package index decides on the build. Without a report, pip makes
one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
FILES = ("requirements", "requirements-cluster", "requirements-dev")
BY_THE_MACHINE = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
HEAD = """\
# Made by `make lock`: what {name}.txt pulls in on CPython 3.11, Linux, x86_64, but for PyTorch. Do not edit.
"""

Packages = dict[str, dict[str, Any]]
"""pip's report on each package, by canonical name."""


def report() -> dict[str, Any]:
    """Return pip's report of what it would install into an empty environment."""
    requirements = [part for name in FILES for part in ("-r", str(ROOT / f"{name}.txt"))]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    report_json: dict[str, Any] = json.loads(
        subprocess.run([*command, *requirements], capture_output=True, check=True).stdout
    )
    return report_json


def closure(packages: Packages, requirements: Iterable[Requirement]) -> set[str]:
    """Return the names of these requirements and of all of their dependencies on this platform."""
    open_ones = list(requirements)
    visited: set[tuple[str, frozenset[str]]] = set()
    while open_ones:
        requirement = open_ones.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in visited or name not in packages:
            continue
        visited.add((name, extras))
        for text in packages[name]["metadata"].get("requires_dist", []):
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                open_ones.append(needed)
    return {name for name, _ in visited}


def lines(packages: Packages, names: Iterable[str]) -> list[str]:
    pinned = []
    for name in sorted(names):
        version = packages[name]["metadata"]["version"]
        sha256 = packages[name]["download_info"]["archive_info"]["hashes"]["sha256"]
        pinned.append(f"{name}=={version} --hash=sha256:{sha256}\n")
    return pinned


def main() -> None:
    report_json = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")) if sys.argv[1:] else report()
    packages: Packages = {canonicalize_name(each["metadata"]["name"]): each for each in report_json["install"]}
    done: set[str] = set()
    for name in FILES:
        texts = (ROOT / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        requirements = [Requirement(text) for text in texts if text and not text.startswith("#")]
        new = {each for each in closure(packages, requirements) if not BY_THE_MACHINE.fullmatch(each)} - done
        (ROOT / f"{name}.lock").write_text(HEAD.format(name=name) + "".join(lines(packages, new)), encoding="utf-8")
        done |= new


if __name__ == "__main__":
    main()
