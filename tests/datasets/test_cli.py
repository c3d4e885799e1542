"""`python -m trainer data`: what it prints and writes, and what it says when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import ImageStat

from tests.datasets.layouts import MAKERS, SPLITS, SQUARES, encoded, picture, put
from trainer.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
FIELDS = ["key", "question", "answer", "difficulty", "reference", "image_width", "image_height", "image_mean"]


@pytest.mark.parametrize("name", MAKERS)
def test_inspect_and_export(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = MAKERS[name](tmp_path / "set")
    assert main(["data", "inspect", name, "--path", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {split: facts["usable"] for split, facts in found["splits"].items()} == SPLITS[name]
    for split, n in SPLITS[name].items():
        target = tmp_path / f"{split}.jsonl"
        command = ["data", "export", name, "--path", str(folder), "--split", split, "--jsonl", str(target)]
        assert main(command) == 0
        lines = [json.loads(line) for line in target.read_text().splitlines()]
        assert len(lines) == n
        assert all(list(line) == FIELDS for line in lines)
        assert {(line["image_width"], line["image_height"]) for line in lines} == {(64, 48)}


def test_what_inspect_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = MAKERS["quantity-23k"](tmp_path)
    assert main(["data", "inspect", "quantity-23k", "--path", str(folder), "--split", "train"]) == 0
    text = capsys.readouterr().out
    assert "32 of 32 rows are usable, 16 images" in text
    assert "64 to 64 px" in text
    assert "references  25" in text
    assert text.endswith("skipped  none\n")


def test_an_exported_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = picture(2, (40, 90))
    put(tmp_path / "a.png", encoded(image))
    line = {"key": "k", "question": "<b>How</b> many \ud800?", "answer": "Three.", "image": "a.png", "reference": "r"}
    put(tmp_path / "examples.jsonl", json.dumps(line))
    assert main(["data", "export", "folder", "--path", str(tmp_path), "--split", "train", "--jsonl", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("image_mean") == pytest.approx(ImageStat.Stat(image).mean)
    assert found == {
        "key": "k",
        "question": "<b>How</b> many \ud800?",
        "answer": 3,
        "difficulty": None,
        "reference": "r",
        "image_width": 40,
        "image_height": 90,
    }


def test_a_trace_is_exported_as_the_set_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = MAKERS["quantity-23k"](tmp_path)
    assert main(["data", "export", "quantity-23k", "--path", str(folder), "--split", "train", "--jsonl", "-"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["reference"] is None
    assert lines[2]["question"] == SQUARES
    assert lines[2]["reference"] == "<think>\n1. **I** see 2.\n</think>\n<answer>2</answer>"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "nope"], "unknown dataset 'nope'"),
        (["inspect", "shapes-simple"], "is generated without end"),
        (["inspect", "tdiuc"], "error: tdiuc is read from local files. Set --path to the folder"),
        (["inspect", "tdiuc", "--path", "{0}/nowhere"], "does not exist. Check --path"),
        (["inspect", "folder", "--path", "{0}/set/examples.jsonl"], "is a file. Set --path to its folder."),
        (["inspect", "{0}/set"], "is a folder. Use `folder`, with --path="),
        (
            ["inspect", "tdiuc", "--path", "{0}"],
            "tdiuc in its original layout (Questions/OpenEnded_mscoco_train2014_questions.json "
            "is missing). Check --path.",
        ),
        (
            ["inspect", "tallyqa", "--path", "{0}"],
            "tallyqa in its original layout (train.json is missing). Check --path.",
        ),
        (["inspect", "countqa", "--path", "{0}"], "(data/test-*.parquet is missing). Check --path."),
        (
            ["inspect", "folder", "--path", "{0}/set", "--split", "test"],
            "has no split 'test'. Choose one of train",
        ),
        (["export", "folder", "--path", "{0}/set", "--split", "train", "--jsonl", "{0}"], "Cannot write"),
        (["inspect", "countqa"], "cannot be reached. Go online, or set --path"),
        (["inspect", "{0}/nowhere.py:examples"], "cannot read"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    MAKERS["folder"](tmp_path / "set")
    assert main(["data", *[argument.format(tmp_path) for argument in arguments]]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("error: ") and said.count("\n") == 1


def test_it_runs_as_a_command_and_loads_no_model_library(tmp_path: Path) -> None:
    folder = MAKERS["folder"](tmp_path / "set")
    code = (
        "import sys; from trainer.__main__ import main; main(sys.argv[1:]); "
        "assert not {'torch', 'transformers', 'trl'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, "data", "inspect", "folder", "--path", str(folder), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["splits"]["train"]["usable"] == 32
