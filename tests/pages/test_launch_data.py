"""The launch form with real datasets: what they need is asked for, and the browser chooses no code."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from app import places
from app.launch import preflight, rewards
from store.db.engine import Store
from store.runs import list_runs
from tests import seeded
from tests.pages.test_launch import database, field, held, launch_button, page
from trainer.spec.config import REAL_DATASETS, RunConfig, from_dict

__all__ = ["database"]


def test_a_real_dataset_asks_for_its_folder_and_launches(database: Store, tmp_path: Path) -> None:
    at = page()
    field(at, "data.dataset").set_value("tdiuc").run()
    assert not at.exception
    assert launch_button(at).disabled
    assert all("“Data folder”\\: tdiuc is read from local files" in error.value for error in at.error)
    field(at, "data.path").set_value(str(tmp_path)).run()
    assert not at.exception and not at.error
    assert f"data.path={tmp_path}" in held(at)
    launch_button(at).click().run()
    [run] = list_runs(database)
    assert run.dataset == "tdiuc"


@pytest.mark.parametrize("name", REAL_DATASETS)
def test_every_dataset_can_be_chosen(name: str, database: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(places.VARIABLE, "/")
    at = page()
    field(at, "method").set_value("none")
    field(at, "data.path").set_value("/somewhere")
    field(at, "data.dataset").set_value(name).run()
    assert not at.exception and not at.error


def test_code_from_elsewhere_is_refused(database: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("def examples(split):\n    return []\n")
    own = from_dict({"data": {"dataset": f"{tmp_path / 'mine.py'}:examples"}})
    at = page(clone=seeded.new_run(database, own).uid)
    assert not at.exception
    assert launch_button(at).disabled
    assert "is code from a file" in at.error[0].value
    monkeypatch.setenv(rewards.FOLDER_VARIABLE, str(tmp_path))
    at.run()
    assert not at.error
    assert not launch_button(at).disabled


def test_a_preflights_picture_is_shown(database: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    text = json.dumps({"checks": [{"name": "data", "level": "ok", "sentence": "Fine."}], "image": uri})
    report = preflight.run_preflight(RunConfig(), command=(sys.executable, "-c", f"print({text!r})"))
    assert report.image == buffer.getvalue()
    monkeypatch.setattr(preflight, "run_preflight", lambda config: report)
    at = page()
    before = len(at.get("image"))
    next(button for button in at.button if button.label == "Preflight").click().run()
    assert not at.exception
    assert len(at.get("image")) == before + 1
