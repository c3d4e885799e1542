"""The GPU's benchmark, made small enough for a CPU: every part gives figures, and the command keeps what it has."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import table
from benchmarks.gpu.__main__ import file_of, main
from benchmarks.gpu.parts import PARTS

pytestmark = pytest.mark.training


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("part", PARTS)
def test_every_part_gives_figures(models: Path, part: str) -> None:
    found = PARTS[part](models, True)
    assert json.loads(json.dumps(found)) == found
    if "ours" in found and "stock" in found:
        for measured in (found["ours"], found["stock"]):
            assert measured["update_s"] > 0 and len(measured["loss"]) == 3 and min(measured["gradient_norm"]) > 0
        assert found["expected"]["peak_gib"] > 0
        assert found["on_the_same_completions"]["gradient_norm_difference"] < 1e-3
        assert found["on_the_same_completions"]["loss_difference"] < 1e-4
    if part == "demo":
        assert found["exit"] == 0
    if part == "answers by batch size":
        assert found["different"] == 0
    assert part in table.render({part: found})


def command(monkeypatch: pytest.MonkeyPatch, out: Path, part: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", "--check", "--out", str(out), "--part", part])
    main()


def test_the_command_repeats_no_part_that_has_figures_and_says_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file_of(tmp_path, "machine").write_text(json.dumps({"device": "kept as it was"}))
    command(monkeypatch, tmp_path, "machine")
    assert "kept as it was" in capsys.readouterr().out
    assert "kept as it was" in Path(tmp_path, "gpu.md").read_text()
    file_of(tmp_path, "demo").write_text(json.dumps({"failed": "it took more than 3 s"}))
    with pytest.raises(SystemExit, match="Failed: demo"):
        command(monkeypatch, tmp_path, "machine")
    with pytest.raises(SystemExit, match="Unknown part nonsense"):
        command(monkeypatch, tmp_path, "nonsense")
