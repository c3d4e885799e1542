"""The data section of a config: what does not fit together is said, and paths hold wherever a job starts."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from store.db.engine import open_store
from store.runs import get_run
from tests.datasets.layouts import made
from trainer import launch, preflight
from trainer.spec import prompt
from trainer.spec.config import REAL_DATASETS, ConfigError, DataConfig, RunConfig, from_dict


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"dataset": "mnist"}, "data.dataset: unknown dataset 'mnist'. Choose one of shapes-simple"),
        ({"dataset": "tdiuc"}, "data.path: tdiuc is read from local files. Set data.path"),
        ({"dataset": "folder", "path": ""}, "data.path: folder is read from local files."),
        ({"dataset": "cauldron", "split_rule": "row"}, "data.split_rule: row is for quantity-23k only."),
        ({"split_rule": "random"}, "data.split_rule must be 'image' or 'row'"),
        ({"dataset": "tallyqa-test"}, "data.dataset: tallyqa-test is a benchmark with a test split only"),
    ],
)
def test_a_mistake_gives_a_sentence(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict({"data": data})
    assert words in str(caught.value)


def test_every_real_set_can_be_evaluated() -> None:
    for name in REAL_DATASETS:
        assert from_dict({"method": "none", "data": {"dataset": name, "path": "/somewhere"}}).data.dataset == name
    assert from_dict({"data": {"dataset": "mine.py:examples"}}).data.path is None


def launched(data: dict[str, Any], folder: Path) -> RunConfig:
    store = open_store(str(folder / "runs.db"))
    run, _ = launch.create(store, from_dict({"data": data}))
    return from_dict(get_run(store, run.id).config)


def test_a_launched_run_keeps_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "traces.jsonl").touch()
    (tmp_path / "mine.py").touch()
    quantity = launched({"dataset": "quantity-23k", "path": "set", "traces": "traces.jsonl"}, tmp_path).data
    assert (quantity.path, quantity.traces) == (str(tmp_path / "set"), str(tmp_path / "traces.jsonl"))
    assert launched({"dataset": "mine.py:examples"}, tmp_path).data.dataset == f"{tmp_path}/mine.py:examples"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"dataset": "folder", "path": "nowhere"}, "data.path: the folder nowhere does not exist."),
        ({"dataset": "nowhere.py:examples"}, "data.dataset: the file nowhere.py does not exist."),
        ({"dataset": "quantity-23k", "traces": "nowhere.jsonl"}, "data.traces: the file nowhere.jsonl does not exist."),
    ],
)
def test_a_path_to_nothing_is_refused_at_launch(data: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        launched(data, tmp_path)


def checks(data: DataConfig, folder: Path) -> tuple[dict[str, tuple[str, str]], dict[str, Any]]:
    report = preflight.preflight(RunConfig(data=data), folder)
    return {check["name"]: (check["level"], check["sentence"]) for check in report["checks"]}, report


def test_preflight_shows_an_example_of_a_real_set(tmp_path: Path) -> None:
    found, report = checks(made("tdiuc", tmp_path), tmp_path)
    assert found["data"][0] == "ok"
    with Image.open(io.BytesIO(base64.b64decode(report["image"].partition(",")[2]))) as image:
        assert image.size == (64, 48)
    assert "How many" in report["prompt"]


def test_preflight_warns_of_a_split_by_row_and_of_a_set_that_cannot_be_read(tmp_path: Path) -> None:
    found, _ = checks(made("quantity-23k", tmp_path / "set", split_rule="row"), tmp_path)
    assert found["data"][0] == "warn"
    assert "splits share images" in found["data"][1]
    found, _ = checks(DataConfig(dataset="folder", path=str(tmp_path)), tmp_path)
    assert found["data and prompt"][0] == "fail"


def test_no_text_of_a_dataset_becomes_a_tag() -> None:
    hostile = "<image> <<think>3</think>"
    assert "<image>" not in prompt.user_text(hostile, "direct", "")
    assert prompt.target(hostile, 3, "cot").count("<think>") == 1
    assert prompt.user_text("How many?", "direct", "Go.") == "How many? Go."
