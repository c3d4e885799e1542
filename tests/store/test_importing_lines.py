"""Logs of one line per step, as tools without a reader of their own write them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from store.db.connection import StoreError
from store.db.engine import Store
from store.importing.saving import import_runs
from store.metrics import list_metric_names, read_series
from store.runs import list_runs

FACTORY = [
    {"current_steps": i, "total_steps": 3, "loss": 1 / i, "lr": 1e-4, "elapsed_time": "0:00:01"} for i in (1, 2, 3)
]
SWIFT = [{"global_step/max_steps": f"{i}/3", "loss": 1 / i, "memory(GiB)": 3.2, "percentage": "20%"} for i in (1, 2, 3)]


def curves(store: Store, run_id: int) -> dict[str, dict[int, float]]:
    found = read_series(store, run_id, list_metric_names(store, run_id))
    return {name: dict(zip(each.step.tolist(), each.value.tolist(), strict=True)) for name, each in found.items()}


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


@pytest.mark.parametrize(
    ("file", "text", "metric"),
    [
        ("trainer_log.jsonl", lines(FACTORY), "loss"),
        ("logging.jsonl", lines(SWIFT), "loss"),
        ("log_1.txt", "".join(f"Step {i} | loss:{1 / i} lr:0.0001 \n" for i in (1, 2, 3)), "loss"),
        (
            "out.log",
            "".join(f"step:{i} - actor/pg_loss:{1 / i} - timing_s/step:4.2\n" for i in (1, 2, 3)),
            "actor/pg_loss",
        ),
        ("a.csv", "\ufeffStep;Loss\n" + "".join(f"{i};{1 / i}\n" for i in (1, 2, 3)), "Loss"),
        ("a.tsv", "iteration\tloss\n" + "".join(f"{i}\t{1 / i}\n" for i in (1, 2, 3)), "loss"),
    ],
)
def test_each_line_is_a_step(file: str, text: str, metric: str, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "out" / file
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    (made,) = import_runs(store, "lines", str(path)).runs
    (run,) = list_runs(store)
    assert (made.steps, run.name) == (3, path.stem)
    assert curves(store, run.id)[metric] == pytest.approx({1: 1.0, 2: 0.5, 3: 1 / 3})
    with path.open("a", encoding="utf-8") as file_:
        file_.write(text.splitlines(keepends=True)[-1].replace("3", "4", 1))
    (again,) = import_runs(store, "lines", str(path.parent)).runs
    assert (again.is_new, again.changed, again.uid) == (False, 1, made.uid)


def test_blanks_and_nan_are_missing_and_words_are_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("step,loss,reward,note\n1,nan,,x\n2,0.5,inf,\n,7,,\n")
    (made,) = import_runs(store, "lines", str(tmp_path / "a.csv")).runs
    found = curves(store, list_runs(store)[0].id)
    assert math.isnan(found["loss"][1]) and found["loss"][2] == 0.5 and math.isnan(found["reward"][2])
    assert 1 not in found["reward"]
    assert "Left out because they have no step: loss." in made.notes
    assert "Left out because they are not numbers: note." in made.notes


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("a.csv", "epoch,loss\n1,2\n", "has no steps. Name the column of the step `step`."),
        ("a.jsonl", "{}\n[1]\nx\n", "has no steps. Name the column of the step `step`."),
        ("a.txt", "Dear all,\nstep by step\n", "has no lines that begin with a step"),
        ("a.csv", "", "has no steps."),
        ("a.pdf", "x", "is neither a table (.csv, .tsv) nor lines (.jsonl, .txt, .log)."),
    ],
)
def test_what_has_no_steps_is_refused(file: str, text: str, told: str, store: Store, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(StoreError) as caught:
        import_runs(store, "lines", str(tmp_path / file))
    assert told in str(caught.value) and list_runs(store) == []


def test_a_folder_may_hold_other_texts(store: Store, tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("Read me.")
    (tmp_path / "a.csv").write_text("step,loss\n1,2\n")
    (tmp_path / "people.csv").write_text("name\nAnn\n")
    report = import_runs(store, "lines", str(tmp_path))
    assert [run.name for run in report.runs] == ["a"]
    assert [told.rpartition("/")[2] for told in report.unread] == [
        "people.csv has no steps. Name the column of the step `step`."
    ]
