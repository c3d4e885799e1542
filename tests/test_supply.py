"""What is installed: the locks agree with the requirements and with what runs here; `make audit` tells the truth."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import audit, lock

ROOT = Path(__file__).resolve().parents[1]
LINE = re.compile(r"([a-z0-9-]+)==([0-9][0-9a-z.]*) --hash=sha256:[0-9a-f]{64}")
FITS = (sys.version_info[:2], sys.platform, platform.machine()) == ((3, 11), "linux", "x86_64")


def locked(*names: str) -> dict[str, str]:
    lines = [line for name in names for line in (ROOT / f"{name}.lock").read_text(encoding="utf-8").splitlines()[1:]]
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), "a line of a lock is not a name, a version and a hash, or names a place"
    pairs = [(match[1], match[2]) for match in found if match]
    assert len(dict(pairs)) == len(pairs), "a package is locked twice"
    return dict(pairs)


def asked(name: str) -> list[Requirement]:
    lines = (ROOT / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", lock.FILES)
def test_a_lock_holds_what_its_requirements_pin(name: str) -> None:
    """Otherwise: `make lock`."""
    known = locked(*lock.FILES[: lock.FILES.index(name) + 1])
    for requirement in asked(name):
        if not lock.BY_THE_MACHINE.fullmatch(requirement.name):
            assert known.get(canonicalize_name(requirement.name)) == str(requirement.specifier).removeprefix("==")


@pytest.mark.skipif(not FITS, reason="the locks are for CPython 3.11, Linux, x86_64")
def test_the_locks_hold_everything_that_is_needed_here() -> None:
    """They are installed without a look at what packages need."""
    known = locked(*lock.FILES)
    missing = set()
    for name in known:
        try:
            texts = requires(name) or []
        except PackageNotFoundError:
            continue  # this environment was made without the lock
        needed = [each for each in map(Requirement, texts) if not each.marker or each.marker.evaluate({"extra": ""})]
        wanted = {canonicalize_name(each.name) for each in needed}
        missing |= {f"{name} needs {each}" for each in wanted - set(known) if not lock.BY_THE_MACHINE.fullmatch(each)}
    assert not missing


def test_pytorch_is_for_the_machine_to_say() -> None:
    assert not [name for name in locked(*lock.FILES) if lock.BY_THE_MACHINE.fullmatch(name)]
    assert version("torch")


def package(name: str, *vulnerabilities: str, **more: str) -> dict[str, object]:
    known = [{"id": each, "fix_versions": ["2.0"]} for each in vulnerabilities]
    return {"name": name, "version": "1.0"} | (more or {"vulns": known})


def test_an_audit_says_what_is_known_and_what_was_not_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        audit.print_vulnerabilities([package("a"), package("b", "CVE-1"), package("torch", skip_reason="local")])
        == audit.SOME_KNOWN
    )
    out = capsys.readouterr().out
    assert out == "b 1.0: CVE-1, fixed in 2.0\n2 packages checked, 1 vulnerabilities known. Not checked: torch.\n"
    assert audit.print_vulnerabilities([package("a")]) == audit.NONE_KNOWN


def test_an_audit_that_reached_nobody_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        audit.print_vulnerabilities([package("a", skip_reason="not found"), package("b", skip_reason="not found")])
        == audit.NOT_ASKED
    )
    assert "cannot be reached, so nothing was checked" in capsys.readouterr().err
    program = tmp_path / "pip-audit"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('ProxyError: refused')\n")
    program.chmod(0o755)
    assert audit.main(str(program)) == audit.NOT_ASKED
    assert "(ProxyError: refused)" in capsys.readouterr().err
