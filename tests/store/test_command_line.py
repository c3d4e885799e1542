"""`python -m store` gives everything back."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import __main__ as command_line
from store import terminal
from store.db import ownership
from store.db.engine import Store
from store.db.rows import RunRef
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.examples import add_examples
from store.experiments import add_to_experiment, create_experiment
from store.jobs import add_job, ask_stop
from store.runs import delete_run
from store.steps import record_metrics, record_step
from tests.store import make
from tests.store.make import sqlite_only


@pytest.fixture
def run(store: Store) -> RunRef:
    run = make.run(store)
    ids = add_examples(store, [make.example()])
    odd = make.completion(1, text="é\0", wellformed=False, correct=False, think=None, answer_span=None, answer=None)
    rows = [make.completion(example_id=ids[0]), odd]
    record_step(store, run.id, 1, {"reward": 0.25, "kl": None}, at=1.0, completions=rows)
    record_metrics(store, run.id, 0, {"kl": 1e-9})
    conditions: dict[str, Any] = {"split": "val", "conditions": {}, "encoder": None, "total": 1}
    evaluation = begin_evaluation(store, run.id, benchmark="shapes-simple", kind="val", step=1, **conditions)
    spans = {"text": "<think>x</think><answer>1</answer>", "think": (7, 8), "wellformed": True, "tokens": 5}
    record_predictions(store, evaluation, [make.prediction(ids[0], similarity=0.5, **spans)])
    finish_evaluation(store, evaluation, {"exact_match": 1.0, "n": 1})
    return run


def call(store: Store, *arguments: str) -> int:
    return command_line.main([*arguments, "--db", store.url])


def test_runs(store: Store, run: RunRef, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(store, "runs", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["uid"], row["step"], row["accuracy"], row["accuracy_n"]) == (run.uid, 1, 1.0, 1)
    assert call(store, "runs") == 0
    assert run.uid in capsys.readouterr().out


def test_metrics(store: Store, run: RunRef, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(store, "metrics", "demo", "--csv") == 0
    out, err = capsys.readouterr()
    rows = list(csv.reader(io.StringIO(out)))
    assert err == "Wrote 2 steps of 2 metrics.\n"
    assert rows == [["step", "kl", "reward"], ["0", "1e-09", ""], ["1", "", "0.25"]]
    assert call(store, "metrics", run.uid, "reward", "--csv") == 0
    assert capsys.readouterr().out == "step,reward\n1,0.25\n"
    capsys.readouterr()
    assert call(store, "metrics", run.uid, "loss", "--csv") == 2
    assert capsys.readouterr().err == "The run has no metric 'loss'; it has kl, reward.\n"


def test_completions(store: Store, run: RunRef, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(store, "completions", run.uid, "--jsonl", str(tmp_path / "out.jsonl")) == 0
    assert capsys.readouterr() == (f"Wrote 2 completions of demo to {tmp_path / 'out.jsonl'}.\n", "")
    first, second = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert first == {
        "run": run.uid,
        "step": 1,
        "example": "shapes-simple/train/a",
        "group": 0,
        "index": 0,
        "text": "<think>1. red</think><answer>1</answer>",
        "think": "1. red",
        "answer": 1,
        "truth": 1,
        "wellformed": True,
        "correct": True,
        "reasoning_steps": 1,
        "tokens": 9,
        "truncated": False,
        "reward": 2.1,
        "rewards": {"format": 1.0},
        "advantage": 0.5,
    }
    assert (second["text"], second["think"], second["example"], second["truth"]) == ("é\ufffd", None, None, None)


def test_predictions(store: Store, run: RunRef, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(store, "predictions", "demo", "--jsonl", "-") == 0
    out, err = capsys.readouterr()
    row = json.loads(out)
    assert err == "Wrote 1 prediction of demo.\n"
    assert (row["run"], row["step"], row["benchmark"]) == (run.uid, 1, "shapes-simple")
    assert (row["kind"], row["sample"]) == ("val", 0)
    assert (row["example"], row["think"], row["answer"], row["truth"]) == ("shapes-simple/train/a", "x", 1, 1)
    assert (row["wellformed"], row["correct"], row["similarity"], row["tokens"]) == (True, True, 0.5, 5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["metrics", "dmeo"], "There is no run 'dmeo'"),
        (["metrics", "demo,other", "reward"], "Curves of several runs are written to a file: add --to"),
        (["metrics", "demo", "--to", "/nowhere/out.csv"], "The folder /nowhere does not exist. Create it"),
        (["metrics", "experiment:evidence"], "Curves of several runs are written to a file: add --to"),
        (["completions", "nobody", "--jsonl", "-"], "There is no run 'nobody'"),
        (["predictions", "demo", "--jsonl", "/nowhere/out.jsonl"], "Cannot write /nowhere/out.jsonl"),
    ],
)
def test_faults_are_one_sentence(
    store: Store, run: RunRef, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert call(store, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(sentence)
    assert err.count("\n") == 1


def test_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for asked in (["runs"], ["delete", "a"], ["orphans", "--remove"]):
        assert command_line.main([*asked, "--db", str(tmp_path / "none.db")]) == 2
    assert capsys.readouterr().err.count("does not exist. Launch a run first") == 3
    assert not (tmp_path / "none.db").exists()


def test_a_reader_that_goes_away(store: Store, run: RunRef) -> None:
    rows = [make.completion(index, text="x" * 5000) for index in range(100)]
    record_step(store, run.id, 2, {}, at=1.0, completions=rows)
    arguments = [sys.executable, "-m", "store", "completions", run.uid, "--jsonl", "-", "--db", store.url]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == "The output was closed before everything was written.\n"
        assert process.wait() == 2


def test_output_does_not_depend_on_the_shell(store: Store, run: RunRef) -> None:
    arguments = [sys.executable, "-m", "store", "completions", run.uid, "--jsonl", "-", "--db", store.url]
    environment = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run(arguments, capture_output=True, env=environment, check=True)
    assert "é\ufffd" in result.stdout.decode("utf-8")


@sqlite_only
def test_a_backup_comes_back(store: Store, run: RunRef, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = str(tmp_path / "copy")
    assert call(store, "backup", copy) == 0
    assert " with 1 images." in capsys.readouterr().out
    assert call(store, "restore", copy) == 2
    assert "Move it away" in capsys.readouterr().err
    assert command_line.main(["restore", copy, "--db", str(tmp_path / "again.db")]) == 0
    capsys.readouterr()
    assert command_line.main(["runs", "--db", str(tmp_path / "again.db")]) == 0
    assert run.uid in capsys.readouterr().out


def test_a_run_goes_to_another_database(
    store: Store, run: RunRef, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, other = str(tmp_path / "run.zip"), str(tmp_path / "other.db")
    assert call(store, "export-run", "demo", file) == 0
    assert command_line.main(["import-run", file, "--db", other]) == 0
    assert f"imported run {run.uid}" in capsys.readouterr().out
    assert command_line.main(["import-run", file, "--db", other]) == 2
    assert "--anew" in capsys.readouterr().err
    assert command_line.main(["import-run", file, "--db", other, "--anew"]) == 0


def test_an_experiment_goes_to_another_database(
    store: Store, run: RunRef, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = create_experiment(store, name="seeds", matrix={"arms": ["a"]})
    add_to_experiment(store, experiment.id, run.id, "a")
    file, other = str(tmp_path / "seeds.zip"), str(tmp_path / "other.db")
    assert call(store, "export-experiment", "seeds", file, "--without-completions") == 0
    assert "Wrote 1 of 1 run" in capsys.readouterr().out
    assert command_line.main(["import-run", file, "--db", other]) == 0
    assert capsys.readouterr().out == f"imported run {run.uid}\n"
    assert command_line.main(["completions", "demo", "--db", other, "--jsonl", "-"]) == 0
    assert not capsys.readouterr().out
    add_job(store, run.id, "evaluate", {})
    assert call(store, "export-experiment", "seeds", str(tmp_path / "again.zip")) == 2
    assert "Wait for one" in capsys.readouterr().err


def test_orphans_are_shown_before_they_are_removed(
    store: Store, run: RunRef, capsys: pytest.CaptureFixture[str]
) -> None:
    delete_run(store, run.id)
    assert call(store, "orphans") == 0
    assert "1 examples, 1 images, 0 stray files" in capsys.readouterr().out
    assert call(store, "orphans", "--remove") == 0
    assert "were removed" in capsys.readouterr().out
    assert call(store, "orphans") == 0
    assert "0 examples, 0 images" in capsys.readouterr().out


def test_what_a_name_holds_neither_moves_the_cursor_nor_pads_the_lines(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("\x1b[31mred\x1b]0;title\x07", "x" * 200, "two\nlines\tand\rmore", "a\u202eb\x9b2J"):
        make.run(store, name=name)
    assert call(store, "runs") == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 5 and max(map(len, out.splitlines())) < 300
    assert all(character.isprintable() for character in out.replace("\n", ""))
    assert "two lines and more" in out and "x" * 59 + "…" in out
    assert call(store, "metrics", "\x1b[2J") == 2
    assert "\x1b" not in capsys.readouterr().err


@given(st.text(max_size=300))
def test_any_text_is_one_short_line_in_a_cell(text: str) -> None:
    line = terminal.cell(text)
    assert len(line) <= terminal.LONGEST and (line.isprintable() or not line)
    assert terminal.shown(text).replace("\n", "").isprintable()


@given(st.text("=+-@\r\n\t \x00\x1b\u202e\uff1d1a", min_size=1, max_size=6))
def test_no_cell_begins_like_a_formula_or_a_row(text: str) -> None:
    written = terminal.unformulaic(text)
    assert not {"\r", "\n", "\t"} & set(written)
    assert written[:1] not in ("=", "+", "-", "@", "\uff1d")


def test_metrics_with_odd_names_are_written_as_text(
    store: Store, run: RunRef, capsys: pytest.CaptureFixture[str]
) -> None:
    record_metrics(store, run.id, 2, {"=cmd|' /C calc'!A0": 1.0, "a\r=1": 2.0})
    assert call(store, "metrics", run.uid, "--csv") == 0
    head = next(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert "'=cmd|' /C calc'!A0" in head and "a =1" in head


def test_delete(store: Store, run: RunRef, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ownership.folder_of(store, run.uid)
    assert ownership.claim(store, run.uid, folder)
    job = add_job(store, run.id, "evaluate", {})
    assert call(store, "delete", run.uid) == 2
    assert capsys.readouterr().err == f"The run has an open job ({job.uid}). Stop the job first.\n"
    ask_stop(store, job.id)
    assert call(store, "delete", "demo") == 0
    assert f"deleted run {run.uid} and {folder}." in capsys.readouterr().out
    assert not folder.exists()
    assert call(store, "delete", run.uid) == 2
    assert "There is no run" in capsys.readouterr().err
