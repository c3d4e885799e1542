"""A wheel of the project, built and installed without a network: its command works, and it hides nobody's modules."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

import store.__main__
from scripts import command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the wheel in it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", str(ROOT), *offline, "--wheel-dir", str(folder)], check=True, cwd=folder)
    [wheel] = folder.glob("*.whl")
    subprocess.run([*pip, "install", str(wheel), *offline, "--target", str(folder / "packages")], check=True)
    return folder / "packages"


def run(installed: Path, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(installed / "bin" / "vr1z"), *arguments],
        cwd=place,
        env=environment(installed),
        capture_output=True,
        text=True,
        check=False,
    )


def environment(installed: Path) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name[:5] != "VR1Z_"} | {"PYTHONPATH": str(installed)}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Somebody's folder, with modules of their own under our names."""
    for name in ("app", "store", "trainer", "pages"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('theirs')\n")
    return tmp_path


def test_everything_lies_below_one_name(installed: Path) -> None:
    assert {path.name for path in installed.iterdir()} <= {"vision_r1_zero", "vision_r1_zero-0.1.0.dist-info", "bin"}


def test_nothing_that_is_made_here_is_packed(installed: Path) -> None:
    [wheel] = installed.parent.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".db"))]
    assert {"vision_r1_zero/inside/trainer/record/vr1z.py", "vision_r1_zero/inside/pages/runs.py"} <= set(names)


def test_the_store_s_commands_work_from_anywhere(installed: Path, place: Path) -> None:
    done = run(installed, place, "runs", "--db", "runs.db")
    assert done.returncode == 2 and "The database" in done.stderr
    assert run(installed, place, "--help").stdout.startswith("usage: vr1z COMMAND")
    wrong = run(installed, place, "nothing")
    assert wrong.returncode == 2 and "usage: vr1z COMMAND" in wrong.stderr


def test_the_dashboard_serves(installed: Path, place: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command_line = [sys.executable, str(installed / "bin" / "vr1z"), "serve", "--port", str(port), "--db", "runs.db"]
    with (place / "log").open("wb") as log:
        server = subprocess.Popen(command_line, cwd=place, env=environment(installed), stdout=log, stderr=log)
    try:
        while True:
            assert server.poll() is None, (place / "log").read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/vr1z.py", timeout=5) as answer:
                    assert b"def record(" in answer.read()
                break
            except OSError:
                time.sleep(0.1)
        assert (place / "runs.db").is_file()
    finally:
        server.kill()
        server.wait()


def test_the_command_knows_every_command() -> None:
    actions = [action for action in store.__main__._parser()._actions if isinstance(action, argparse._SubParsersAction)]
    assert set(command.STORE) == {name for action in actions for name in action.choices}
    text = subprocess.run(
        [sys.executable, "-m", "trainer", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    known = {line.split()[0] for line in text.splitlines() if line.startswith("    ") and line[4:5].strip()}
    assert set(command.TRAINER) == known - {"COMMAND", "job", "rank", "ray"}, "the last three are for processes"
