"""Build a wheel of the project for `pip wheel .` (PEP 517), using only the standard library.

Everything is in one package, `vision_r1_zero`, so that ours does not hide another `app`, `store` or `trainer`: the
folders are in `inside`, and next to it is the command `vr1z`, which puts them on the path of its processes.
"""

from __future__ import annotations

import base64
import hashlib
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "vision_r1_zero"
FOLDERS = ("app", "pages", "store", "trainer", "recorded", "docs")
LEFT_OUT = ("__pycache__", "screenshots")
BASE, TRAINER = "requirements-dashboard.txt", "requirements.txt"
STAMP = (2026, 1, 1, 0, 0, 0)
"""Time stamp of all files, so that equal sources give equal wheels."""


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return []


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Write the wheel into a folder and return its name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wheel_name = f"{PACKAGE}-{project['version']}"
    contents = dict(_contents()) | {
        f"{wheel_name}.dist-info/METADATA": _metadata(project).encode(),
        f"{wheel_name}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: vision-r1-zero\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n",
        f"{wheel_name}.dist-info/entry_points.txt": f"[console_scripts]\nvr1z = {PACKAGE}.command:main\n".encode(),
    }
    record = f"{wheel_name}.dist-info/RECORD"
    lines = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in contents.items()]
    contents[record] = "".join([*lines, f"{record},,\n"]).encode()
    name = f"{wheel_name}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in contents.items():
            wheel.writestr(zipfile.ZipInfo(path, STAMP), data, zipfile.ZIP_DEFLATED)
    return name


def _contents() -> Iterator[tuple[str, bytes]]:
    """Yield the files of the package by their path in the wheel."""
    yield f"{PACKAGE}/__init__.py", b""
    yield f"{PACKAGE}/command.py", (ROOT / "scripts" / "command.py").read_bytes()
    yield f"{PACKAGE}/inside/LICENSE", (ROOT / "LICENSE").read_bytes()
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            inner = path.relative_to(ROOT)
            if path.is_file() and not set(inner.parts) & set(LEFT_OUT):
                yield f"{PACKAGE}/inside/{inner.as_posix()}", path.read_bytes()


def _metadata(project: dict[str, Any]) -> str:
    base, trainer = _pins(BASE), _pins(TRAINER)
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"Requires-Python: {project['requires-python']}",
        f"License-Expression: {project['license']}",
        *(f"Requires-Dist: {pin}" for pin in base),
        "Provides-Extra: trainer",
        *(f"Requires-Dist: {pin}; extra == 'trainer'" for pin in trainer if pin not in base),
        "Description-Content-Type: text/markdown",
        "",
        (ROOT / project["readme"]).read_text(encoding="utf-8"),
    ]
    return "\n".join(lines)


def _pins(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith(("#", "-"))]


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
