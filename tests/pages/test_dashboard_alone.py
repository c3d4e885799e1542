"""The dashboard in an environment that holds what requirements-dashboard.txt names, and nothing of the trainer."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from store.db.engine import Store
from tests import seeded

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
CODE = """
import sys
from importlib.util import find_spec
from tests.pages import opening
from app import server
from app.shared import intents

assert find_spec("torch") is None and find_spec("transformers") is None
server.prepare()
uid, *pages = sys.argv[1:]
for page in pages:
    app = opening.address(page, run=uid).run()
    assert not app.exception, (page, app.exception)
from store.db.engine import open_store
from trainer import launch
from trainer.spec.config import ConfigError, preset
try:
    launch.submit(open_store(), preset("shapes-sft"))
except ConfigError as error:
    print(error)
"""


def requirements(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def closure(wanted: list[Requirement]) -> list[Distribution]:
    """Return what is installed of these requirements and of all that they need."""
    open_ones, found = list(wanted), dict[tuple[str, frozenset[str]], Distribution]()
    while open_ones:
        one = open_ones.pop()
        key = (one.name.lower(), frozenset(one.extras))
        if key in found:
            continue
        try:
            found[key] = distribution(one.name)
        except PackageNotFoundError:
            continue
        for text in found[key].requires or ():
            need = Requirement(text)
            extras = one.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
                open_ones.append(need)
    return list(found.values())


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """The interpreter of a new environment with those packages, linked from where they are installed."""
    venv.create(tmp_path / "alone", symlinks=True)
    (packages,) = (tmp_path / "alone/lib").glob("python*/site-packages")
    for each in closure(requirements("requirements-dashboard.txt")):
        for file in each.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(each.locate_file(top))).resolve())
    return tmp_path / "alone/bin/python"


def test_its_pins_are_those_of_the_whole() -> None:
    whole = {str(each) for each in requirements("requirements.txt")}
    assert {str(each) for each in requirements("requirements-dashboard.txt")} <= whole


def test_every_page_opens_and_launching_says_what_is_missing(alone: Path, seeded_store: Store) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    done = subprocess.run(
        [str(alone), "-c", CODE, run.uid, *PAGES],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "The trainer is not installed here" in done.stdout
    assert sys.executable != str(alone)
