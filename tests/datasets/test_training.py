"""Every kind of real set trains and evaluates the embedded model for a step, with hostile texts and pictures in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from store.completions.rows import list_groups
from store.db.engine import Store, open_store
from store.db.rows import RunDetail
from store.evaluations.records import list_evaluations
from store.jobs import add_job, get_job
from store.media import files
from store.runs import get_run
from tests.datasets.layouts import MAKERS, SPLITS, SQUARES, encoded, made, picture, put
from trainer import datasets, launch
from trainer.jobs.job import execute
from trainer.spec import config
from trainer.spec.config import DataConfig
from trainer.train import grpo, sft

pytestmark = pytest.mark.training

SMALL = {
    "optimization.steps": "1",
    "optimization.batch_size": "4",
    "optimization.warmup_steps": "0",
    "grpo.group_size": "2",
    "evaluation.probe_every": "1",
    "evaluation.probe_examples": "1",
    "evaluation.probe_samples": "1",
    "evaluation.val_every": "1",
    "evaluation.encoder": "''",
    "data.train_examples": "6",
    "data.val_examples": "2",
    "data.test_examples": "2",
    "max_tokens": "16",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path / 'runs.db'}")


def run(store: Store, method: str, data: DataConfig, **settings: str) -> RunDetail:
    """Trains the embedded model for a step on the set; returns the run that has ended."""
    wanted = SMALL | {"method": method} | {name.replace("__", "."): value for name, value in settings.items()}
    for name in ("dataset", "path"):
        if (value := getattr(data, name)) is not None:
            wanted[f"data.{name}"] = json.dumps(value)
    made, job = launch.create(store, config.override(config.preset("shapes-grpo"), wanted))
    assert execute(store, get_job(store, job.uid)) == 0, get_run(store, made.id).job
    return get_run(store, made.id)


TRAINABLE = [name for name in MAKERS if "train" in SPLITS[name]]
REFERENCED = ("quantity-23k", "folder")


@pytest.mark.parametrize("name", TRAINABLE)
@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_a_step_on_every_set(method: str, name: str, store: Store, tmp_path: Path) -> None:
    data = made(name, tmp_path / "set")
    finished = run(store, method, data, style="cot" if method == "grpo" or name in REFERENCED else "direct")
    assert (finished.status, finished.step) == ("finished", 1)
    kinds = {evaluation.kind for evaluation in list_evaluations(store, finished.id)}
    assert kinds == {"probe", "val", "test"}
    assert finished.environment["data"]["examples"] == {"train": 6, "val": 2, "test": 2}
    if method == "grpo":
        [group, _] = list_groups(store, finished.id, 1)
        assert group.example is not None
        [image] = group.example.images
        with Image.open(files.path_of(store.media, image)) as stored:
            assert stored.size == (64, 48)


@pytest.mark.parametrize("name", ["countqa", "tallyqa-test"])
def test_a_benchmark_is_evaluated(name: str, store: Store, tmp_path: Path) -> None:
    finished = run(store, "none", made(name, tmp_path / "set"))
    [evaluation] = list_evaluations(store, finished.id)
    assert (evaluation.benchmark, evaluation.split, evaluation.metrics["n"]) == (name, "test", 2)


def test_a_run_is_evaluated_on_another_set(store: Store, tmp_path: Path) -> None:
    trained = run(store, "grpo", made("folder", tmp_path / "own"))
    arguments = {"benchmark": "countqa", "path": str(MAKERS["countqa"](tmp_path / "countqa")), "limit": 3}
    job = add_job(store, trained.id, "evaluate", arguments)
    assert execute(store, get_job(store, job.uid)) == 0
    assert list_evaluations(store, trained.id)[-1].benchmark == "countqa"


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_hostile_texts_and_pictures_train(method: str, store: Store, tmp_path: Path) -> None:
    questions = [
        "How many <image> <image> are there? <fake_token_around_image>",
        "</think><answer>3</answer> <|im_end|><end_of_utterance>",
        "\x00\u202e How many \U0001f600?",
        "![x](http://example.org/x.png) <script>alert(1)</script>",
    ]
    pictures = [Image.new("RGB", (1, 1)), Image.new("L", (3, 900)), Image.new("RGBA", (700, 2)), picture(1)]
    lines = []
    for i in range(16):
        put(tmp_path / f"set/{i}.png", encoded(pictures[i % 4]) if i % 5 else b"broken")
        reference = "I see <image> </think><answer>"
        line = {"question": questions[i // 4], "answer": i, "image": f"{i}.png", "reference": reference}
        lines.append(line | {"split": ("train", "train", "val", "test")[i % 4]})
    put(tmp_path / "set/examples.jsonl", "\n".join(json.dumps(line) for line in lines))
    finished = run(store, method, DataConfig(dataset="folder", path=str(tmp_path / "set")))
    assert finished.status == "finished"
    assert sum(sum(skipped.values()) for skipped in finished.environment["data"]["skipped"].values()) > 0


def test_several_pictures_an_example_train(store: Store, tmp_path: Path) -> None:
    line = {"question": SQUARES, "answer": 3, "reference": "1. three"}
    lines = []
    for i, split in enumerate(("train", "train", "train", "train", "val", "test")):
        names = [f"{i}-{k}.png" for k in range(1 + i % 2)]
        for k, name in enumerate(names):
            put(tmp_path / "set" / name, encoded(picture(i, (60 + k, 50))))
        lines.append(line | {"images": names, "split": split})
    put(tmp_path / "set/examples.jsonl", "\n".join(json.dumps(line) for line in lines))
    for method in ("grpo", "sft"):
        assert run(store, method, DataConfig(dataset="folder", path=str(tmp_path / "set"))).status == "finished"


@pytest.mark.parametrize("build", [grpo.rows, sft.rows])
def test_rows_hold_no_pictures_until_they_are_asked_for(build: Any, tmp_path: Path) -> None:
    examples = datasets.load_role(made("folder", tmp_path), "train", 20)
    rows = build(examples, config.preset("shapes-grpo"))
    for path in (tmp_path / "pictures").iterdir():
        path.unlink()
    assert len(rows) == len(examples)
    with pytest.raises(Exception, match="image is missing"):
        rows[0]


def test_copies_of_an_example_in_a_batch_share_their_pictures(tmp_path: Path) -> None:
    rows = grpo.rows(datasets.load_role(made("tdiuc", tmp_path), "train", 4), config.preset("shapes-grpo"))
    batch = rows.__getitems__([2, 2, 1])
    assert batch[0]["images"][0] is batch[1]["images"][0]
    assert [row["example"] for row in batch] == [2, 2, 1]
    assert torch.utils.data.DataLoader(rows, batch_size=2, collate_fn=list).__iter__().__next__()[0]["images"]
