"""A few of the faults that `make faults` tries many times, each once, on a real training."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.faults import deaths, recorders
from tests.faults.__main__ import FAULTS, ROOT
from tests.faults.upstream import CASES

training = pytest.mark.training


@training
def test_a_killed_trainer_is_shown_as_killed_loses_no_step_and_resumes(tmp_path: Path) -> None:
    said = deaths.trainer(tmp_path, 1)
    assert "ended with the same curves as one that nobody killed" in said


@training
def test_training_goes_on_when_the_dashboard_is_killed(tmp_path: Path) -> None:
    assert "training went on each time" in deaths.dashboard(tmp_path, 1)


def test_the_journal_of_a_killed_script_and_the_database_agree(tmp_path: Path) -> None:
    assert "are in the database once each" in recorders.killed(tmp_path / "killed", 3)


@pytest.mark.parametrize("case", [test for _, test in CASES], ids=lambda test: test.rpartition("::")[2])
def test_each_complaint_about_others_has_a_test(case: str) -> None:
    path, _, name = case.partition("::")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    assert callable(getattr(module, name))


def test_the_table_holds_every_fault() -> None:
    table = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    missing = [fault.name for fault in FAULTS if f"| {fault.name} | {fault.expected} |" not in table]
    assert not missing, "run make faults"
    assert all(f"| {complaint} | `{test}` |" in table for complaint, test in CASES)
