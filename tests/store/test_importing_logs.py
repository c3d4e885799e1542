"""Logs as people have them: in several files, resumed, half damaged, of every writer and age."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import sqlite3
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from store.__main__ import main
from store.completions.rows import list_completions
from store.db.connection import StoreError
from store.db.engine import Store
from store.evaluations.predictions import iter_predictions
from store.evaluations.records import list_evaluations
from store.events import list_events
from store.importing import event_values, wandb
from store.importing.found import FoundRun
from store.importing.saving import Report, import_runs
from store.metrics import list_metric_names
from store.runs import get_run, list_runs, resolve_run
from tests.store.test_importing import curve, group, only, write_state, write_tables

WRITTEN = Path(__file__).with_name("written")
"""By the tools themselves: see `write_logs.py` there."""
MESSAGES = event_values.MESSAGES
Scalars = Iterable[tuple[str, int, float]]


def write_events(path: Path, scalars: Scalars, begun: float = 1.7e9, restart: int | None = None) -> Path:
    """An event file, an event a scalar, a second each."""
    events = [MESSAGES["Event"](wall_time=begun)]
    if restart is not None:
        events.append(MESSAGES["Event"](wall_time=begun, step=restart, session_log={"status": 1}))
    for i, (tag, step, value) in enumerate(scalars):
        summary = {"value": [{"tag": tag.encode(), "simple_value": value}]}
        events.append(MESSAGES["Event"](wall_time=begun + i, step=step, summary=summary))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for event in events:
            data = event.SerializeToString()
            file.write(struct.pack("<QI", len(data), 0) + data + bytes(4))
    return path


def write_wandb(path: Path, rows: Iterable[dict[str, Any]], run: str = "abc", name: str = "cows") -> Path:
    """A W&B file; `_step` of a row is where W&B puts it."""
    make: Any = wandb._MESSAGES["Record"]
    records = [make(run={"run_id": run.encode(), "project": b"p", "display_name": name.encode()})]
    for row in rows:
        items = [{"key": key.encode(), "value_json": json.dumps(value).encode()} for key, value in row.items()]
        records.append(make(history={"item": items}))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(wandb.IDENT + b"\xe1\xbe\x00")
        for record in records:
            data = record.SerializeToString()
            file.write(wandb._PIECE.pack(0, len(data), wandb.WHOLE) + data)
    assert path.stat().st_size < wandb.BLOCK
    return path


def names(report: Report) -> list[str]:
    return [run.name for run in report.runs]


def notes(report: Report) -> str:
    return "\n".join(note for run in report.runs for note in run.notes)


def test_every_type_and_encoding_of_a_scalar_is_read(store: Store) -> None:
    run = only(store, "tensorboard", WRITTEN / "tensors")
    known = list_metric_names(store, run.id)
    assert len(known) == 24  # 12 types, each listed and packed
    for name in known:
        assert curve(store, run, name) == {0: 1.0, 1: 0.0}


@pytest.mark.parametrize(
    ("tensor", "number"),
    [
        ({"dtype": 1, "float_val": [0.5]}, 0.5),
        ({"float_val": [0.5]}, 0.5),
        ({"dtype": 14, "half_val": [0x4049]}, 3.140625),
        ({"dtype": 14, "tensor_content": b"\x49\x40"}, 3.140625),
        ({"dtype": 19, "half_val": [0xC000]}, -2.0),
        ({"dtype": 2, "shape": {"dim": [{"size": 1}]}, "double_val": [7.0]}, 7.0),
        ({"dtype": 9}, 0.0),
        ({"dtype": 2, "shape": {"dim": [{"size": 3}]}, "double_val": [7.0]}, None),
        ({"dtype": 1, "tensor_content": b"1234567"}, None),
        ({"dtype": 7, "string_val": [b"text"]}, None),
        ({"dtype": 99, "float_val": [1.0]}, None),
    ],
)
def test_one_number_is_a_scalar_and_nothing_else_is(tensor: dict[str, Any], number: float | None) -> None:
    assert event_values.scalar(MESSAGES["Value"](tag=b"x", tensor=tensor)) == number


def test_folders_of_a_writer_say_whose_they_are_and_what_is_no_scalar_is_counted(store: Store) -> None:
    report = import_runs(store, "tensorboard", str(WRITTEN / "summary_writer"))
    below = ("", "/trial", "/val/quality/precision", "/val/quality/recall")
    assert names(report) == [f"summary_writer{place}" for place in below]
    told = notes(report)
    assert "Written by add_hparams for the run summary_writer." in told
    assert told.count("Written by add_scalars('val/quality') for the run summary_writer.") == 2
    for kind in ("note/text_summary (text)", "weights (histogram)", "picture (picture)"):
        assert kind in told
    first, trial = (get_run(store, resolve_run(store, run.uid)) for run in report.runs[:2])
    assert curve(store, first, "loss") == {0: 1.0, 1: 0.75, 2: 9.0}  # the second writer purged from step 2 on
    assert trial.config["recorded"]["hparams"] == {"seed": 7, "rate": 0.001, "note": "x", "on": True}


def test_pytorch_names_the_folders_of_add_scalars_with_a_dash_below(store: Store, tmp_path: Path) -> None:
    for place in ("", "val_quality_good", "other"):
        write_events(tmp_path / "run" / place / "events.out.tfevents.1700000000.host", [("val/quality", 1, 0.5)])
    report = import_runs(store, "tensorboard", str(tmp_path))
    assert names(report) == ["run", "run/other", "run/val_quality_good"]
    assert notes(report) == "Written by add_scalars('val/quality') for the run run."


def test_equal_folder_names_are_told_apart(store: Store, tmp_path: Path) -> None:
    for place in ("a/train", "b/train", "c/train"):
        write_events(tmp_path / place / "events.out.tfevents.1700000000.host", [("loss", 1, 0.5)])
    assert names(import_runs(store, "tensorboard", str(tmp_path))) == ["a/train", "b/train", "c/train"]
    again = import_runs(store, "tensorboard", str(tmp_path))
    assert [(run.is_new, run.changed) for run in again.runs] == [(False, 0)] * 3
    for place in ("x", "y"):
        history = [{"step": 1, "loss": float(ord(place))}]
        write_state(tmp_path / place / "out", history)
        import_runs(store, "trl", str(tmp_path / place / "out"))
    write_wandb(tmp_path / "w" / "run-1.wandb", [{"_step": 1, "loss": 1.0}], run="1")
    write_wandb(tmp_path / "w" / "run-2.wandb", [{"_step": 1, "loss": 1.0}], run="2")
    assert names(import_runs(store, "wandb", str(tmp_path / "w"))) == ["cows (1)", "cows (2)"]
    listed = [run.name for run in list_runs(store)]
    assert "out" in listed and "y/out" in listed and len(set(listed)) == len(listed)


def test_logs_that_begin_alike_are_runs_of_their_own_and_moved_ones_are_not(store: Store, tmp_path: Path) -> None:
    name = "events.out.tfevents.1700000000.host.1.0"
    for place, scalars in {"x": [("a", 0, 0.0), ("a", 1, 1.0)], "y": [("a", 0, 0.0), ("b", 0, 1.0)]}.items():
        write_events(tmp_path / place / name, scalars)
        assert import_runs(store, "tensorboard", str(tmp_path / place)).runs[0].is_new
    shutil.copytree(tmp_path / "x", tmp_path / "moved")
    write_events(tmp_path / "moved" / name, [("a", 0, 0.0), ("a", 1, 1.0), ("a", 2, 2.0)])
    (grown,) = import_runs(store, "tensorboard", str(tmp_path / "moved")).runs
    assert (grown.name, grown.is_new, grown.changed) == ("x", False, 1)


def attempt(first: int, last: int, value: float) -> list[tuple[str, int, float]]:
    return [(tag, step, value) for step in range(first, last + 1) for tag in ("loss", "reward")]


@pytest.mark.parametrize("restart", [None, 5])
def test_a_log_that_was_resumed_ends_where_its_last_attempt_ended(
    store: Store, tmp_path: Path, restart: int | None
) -> None:
    write_events(tmp_path / "events.out.tfevents.1700000000.host.1.0", [*attempt(1, 9, 0.0), ("eval/loss", 8, 1.0)])
    (one,) = import_runs(store, "tensorboard", str(tmp_path)).runs
    write_events(tmp_path / "events.out.tfevents.1700000500.host.2.0", attempt(5, 6, 2.0), 1.7e9 + 500, restart)
    (two,) = import_runs(store, "tensorboard", str(tmp_path)).runs
    assert (two.uid, two.is_new) == (one.uid, False) and two.changed == 5
    run = get_run(store, resolve_run(store, one.uid))
    assert curve(store, run, "loss") == {1: 0.0, 2: 0.0, 3: 0.0, 4: 0.0, 5: 2.0, 6: 2.0}
    assert run.step == 6 and curve(store, run, "eval/loss") == {}
    assert "An earlier attempt reached step 9" in run.config["imported"]["notes"][0]


def test_files_that_were_written_side_by_side_or_of_other_figures_lose_nothing(store: Store, tmp_path: Path) -> None:
    write_events(tmp_path / "events.out.tfevents.1700000000.host.1.0", [("loss", step, 1.0) for step in range(50)])
    write_events(tmp_path / "events.out.tfevents.1700000010.host.1.1", [("loss", 3, 2.0)], 1.7e9 + 10)
    write_events(tmp_path / "events.out.tfevents.1700000900.host.2.0", [("test/accuracy", 0, 0.5)], 1.7e9 + 900)
    run = only(store, "tensorboard", tmp_path)
    assert len(curve(store, run, "loss")) == 50 and curve(store, run, "loss")[3] == 2.0
    assert curve(store, run, "test/accuracy") == {0: 0.5}


def test_a_run_of_wandb_in_two_files_is_one_and_its_later_file_wins(store: Store) -> None:
    run = only(store, "wandb", WRITTEN / "resumed")
    assert (run.name, run.step) == ("resumed", 5)
    assert curve(store, run, "loss") == {1: 1.0, 2: 1.0, 3: 1.0, 4: 2.0, 5: 2.0}
    assert curve(store, run, "off_by_one") == {1: 0.1, 2: 0.1, 3: 0.1, 4: 0.2, 5: 0.2}
    told = "\n".join(run.config["imported"]["notes"])
    assert "stored at the last step that it had logged: off_by_one (8 times)" in told and "note (8 times)" in told


def test_a_run_grows_by_a_later_file_and_by_one_imported_alone(store: Store, tmp_path: Path) -> None:
    files = [
        write_wandb(
            tmp_path / f"offline-run-2026010{day}_000000-abc" / "run-abc.wandb",
            [{"_step": step, "reward": float(day)} for step in steps],
        )
        for day, steps in ((1, range(3)), (2, range(3, 6)), (3, range(6, 8)))
    ]
    for file in (files[0], files[1], files[2]):
        import_runs(store, "wandb", str(file))
    (run,) = list_runs(store)
    whole = {step: float(1 + step // 3) for step in range(8)}
    detail = get_run(store, run.id)
    assert curve(store, detail, "reward") == whole and run.step == 7
    assert import_runs(store, "wandb", str(tmp_path)).runs[0].changed == 0
    assert curve(store, detail, "reward") == whole
    assert len([event for event in list_events(store, run.id) if event.kind == "imported"]) == 3


def test_figures_without_the_trainers_step_are_placed_or_counted(store: Store, tmp_path: Path) -> None:
    rows = [{"_step": 0, "before": 1.0}, {"_step": 1, "train/global_step": 10, "train/loss": 0.5}]
    rows += [{"_step": 2, "after": 2.0}, {"_step": 3, "after": 3.0}]
    write_wandb(tmp_path / "run-abc.wandb", rows)
    report = import_runs(store, "wandb", str(tmp_path))
    run = get_run(store, resolve_run(store, report.runs[0].uid))
    assert list_metric_names(store, run.id) == ["after", "loss"] and curve(store, run, "after") == {10: 3.0}
    assert report.runs[0].notes == (
        "Left out because the trainer had not logged its step yet: before.",
        "Logged without the trainer's step, and stored at the last step that it had logged: after (2 times).",
        "Logged several times at the same step, of which the last value is kept: after.",
    )


@pytest.mark.parametrize("key", ["global_step", "train/global_step", "trainer/global_step", "training/global_step"])
def test_a_trainer_that_goes_back_in_one_log_was_resumed(key: str) -> None:
    run = FoundRun("x", "x")
    for count, step in enumerate((1, 2, 3, 4, 3, 4)):
        run.add(count, {key: step, "loss": float(count)})
    run.add(9, {key: math.inf, "loss": 1.0})
    assert run.metrics == {1: {"loss": 0.0}, 2: {"loss": 1.0}, 3: {"loss": 4.0}, 4: {"loss": 5.0}}


def test_no_name_is_cut_into_another_or_folded(store: Store, tmp_path: Path) -> None:
    tags = ["n" * 220 + "/a", "n" * 220 + "/b", "n" * 120 + "m" * 120, "loss", "train/loss", "x\u200b", "x", "\u200b"]
    tags += ["rewards/f/mean", "rewards/f", "reward/f", "val-core/acc@8", "准确率 %"]
    scalars = [(tag, 1, float(i)) for i, tag in enumerate(tags)]
    run = only(store, "tensorboard", write_events(tmp_path / "events.out.tfevents.1700000000.host", scalars))
    known = list_metric_names(store, run.id)
    assert len(known) == len(tags) and max(map(len, known)) <= 200
    assert sorted(value for name in known for value in curve(store, run, name).values()) == [*map(float, range(13))]
    assert curve(store, run, "loss") == {1: 3.0} and curve(store, run, "train/loss") == {1: 4.0}
    assert "Names of more than 200 characters are shortened to their beginning and end" in str(
        run.config["imported"]["notes"]
    )


def test_steps_that_cannot_be_kept_are_counted(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scalars = [("reward", step * 10**9, 1.0) for step in range(5)]
    write_events(tmp_path / "some" / "events.out.tfevents.1700000000.host", scalars)
    write_events(tmp_path / "none" / "events.out.tfevents.1700000000.host", scalars[3:])
    assert main(["import", "tensorboard", str(tmp_path), "--db", store.url]) == 0
    said = capsys.readouterr().out
    assert "imported some" in said and said.count("from 0 to 2,147,483,647: reward (2 times).") == 2
    assert f"not imported: {tmp_path}/none has no scalars that can be imported." in said


BAD = {"empty": b"", "foreign": b"\x7fELF and so on" * 9, "header only": b":W&B\xe1\xbe\x00"}


@pytest.mark.parametrize("content", BAD)
@pytest.mark.parametrize("tool", ["wandb", "tensorboard", "trackio"])
def test_one_bad_file_is_named_and_the_others_come_in(store: Store, tmp_path: Path, tool: str, content: str) -> None:
    bad = {"wandb": "run-bad.wandb", "tensorboard": "events.out.tfevents.bad", "trackio": "bad.db"}[tool]
    logs = tmp_path / "logs"
    (logs / "bad").mkdir(parents=True)
    (logs / "bad" / bad).write_bytes(BAD[content])
    with pytest.raises(StoreError, match=bad):
        import_runs(store, tool, str(logs))
    write_wandb(logs / "good" / "run-good.wandb", [{"_step": 1, "loss": 1.0}])
    write_events(logs / "good" / "events.out.tfevents.1700000000.host", [("loss", 1, 1.0)])
    write_trackio(logs / "good.db", "id INTEGER, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT")
    report = import_runs(store, tool, str(logs))
    assert len(report.runs) == 1 and len(report.unread) == 1 and bad in report.unread[0]
    events = list_events(store, resolve_run(store, report.runs[0].uid))
    assert bad in next(event.message for event in events if event.kind == "imported")


def test_a_file_that_is_cut_off_is_read_up_to_there_and_named(store: Store, tmp_path: Path) -> None:
    file = write_wandb(tmp_path / "run-abc.wandb", [{"_step": step, "loss": 1.0} for step in range(5)])
    file.write_bytes(file.read_bytes()[:-3])
    events = write_events(tmp_path / "events.out.tfevents.1700000000.host", [("loss", step, 1.0) for step in range(5)])
    events.write_bytes(events.read_bytes()[:-7])
    for tool in ("wandb", "tensorboard"):
        (run,) = import_runs(store, tool, str(tmp_path)).runs
        assert run.steps == 4 and "is cut off" in run.notes[0]


def write_trackio(path: Path, columns: str, configs: str = "") -> None:
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE metrics ({columns})")
        if configs:
            database.execute(f"CREATE TABLE configs ({configs})")
        named = [each.split()[0] for each in columns.split(", ")]
        for step in (0, 1):
            row = {"timestamp": "2025-08-01T10:00:00", "run_name": "r", "step": step, "project_name": "old"}
            row |= {"metrics": json.dumps({"loss": 1.0 - step / 2})}
            kept = {name: row[name] for name in named if name in row}
            places = ", ".join("?" * len(kept))
            database.execute(f"INSERT INTO metrics ({', '.join(kept)}) VALUES ({places})", tuple(kept.values()))
    database.close()


@pytest.mark.parametrize(
    ("columns", "configs"),
    [
        # 0.0.10, one file for all projects
        (
            "id INTEGER PRIMARY KEY, timestamp DATETIME DEFAULT CURRENT_TIMESTAMP, project_name TEXT, run_name TEXT, "
            "metrics TEXT",
            "project_name TEXT, run_name TEXT, config TEXT",
        ),
        # 0.1 to 0.2
        ("id INTEGER PRIMARY KEY, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT", ""),
        # 0.5 to 0.20
        (
            "id INTEGER PRIMARY KEY, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT",
            "id INTEGER PRIMARY KEY, run_name TEXT, config TEXT",
        ),
    ],
)
def test_every_layout_of_trackio_is_read(store: Store, tmp_path: Path, columns: str, configs: str) -> None:
    write_trackio(tmp_path / "trackio.db", columns, configs)
    run = only(store, "trackio", tmp_path)
    assert run.name == "r" and curve(store, run, "loss") == {0: 1.0, 1: 0.5}


def test_older_tables_and_states_of_trl_are_read(store: Store, tmp_path: Path) -> None:
    rows = [{"step": "4", "prompt": "a", "completion": "x", "reward": value, "note": "n"} for value in (1.0, 0.0)]
    folder = write_tables(tmp_path / "out", {})
    write_state(folder, [{"step": "4", "rewards/f": 0.5, "reward": 0.5, "completion_length": 9.0}])
    pd.DataFrame(rows).to_parquet(folder / "completions" / "completions_00004.parquet")
    run = only(store, "trl", folder)
    assert curve(store, run, "reward/f") == {4: 0.5} and curve(store, run, "completion_length") == {4: 9.0}
    said = list_completions(store, run.id, steps=(4, 4))
    assert [row.reward for row in said] == [1.0, 0.0] and said[0].rewards == {}
    assert "not columns of rewards: note" in "\n".join(run.config["imported"]["notes"])


@pytest.mark.parametrize(
    ("tags", "method"),
    [
        ("- generated_from_trainer\n- trl\n- rloo", "rloo"),
        ("- grpo\n- trl", "grpo"),
        ("- trl\n- online-dpo", "online_dpo"),
        ("- rloo", "grpo"),
    ],
)
def test_the_model_card_of_trl_names_the_method(store: Store, tmp_path: Path, tags: str, method: str) -> None:
    write_state(tmp_path / "out", [{"step": 1, "reward": 0.5, "frac_reward_zero_std": 0.0}])
    (tmp_path / "out" / "README.md").write_text(
        f"---\nlibrary_name: transformers\ntags:\n{tags}\n---\n\n# out\n- sft\n"
    )
    import_runs(store, "trl", str(tmp_path / "out"))
    assert list_runs(store)[0].method == method


def test_a_folder_of_outputs_is_a_run_each(store: Store, tmp_path: Path) -> None:
    for name in ("one/out", "two/out"):
        for place in ("", "checkpoint-1"):
            write_state(tmp_path / name, [{"step": 1, "loss": float(ord(name[0]))}], place)
    assert names(import_runs(store, "trl", str(tmp_path))) == ["one/out", "two/out"]
    write_state(tmp_path / "three", [{"step": 1, "loss": 3.0}], "checkpoint-1")
    assert names(import_runs(store, "trl", str(tmp_path / "three" / "checkpoint-1"))) == ["three/checkpoint-1"]


def test_what_an_earlier_attempt_left_in_an_output_folder_is_left_out(store: Store, tmp_path: Path) -> None:
    out = write_tables(tmp_path / "out", {100: group("a", [1.0, 0.0], "new"), 500: group("a", [1.0, 0.0], "old")})
    write_state(out, [{"step": step, "loss": 9.0} for step in range(100, 501, 100)], "checkpoint-500")
    write_state(out, [{"step": step, "loss": 1.0} for step in (50, 100)], "checkpoint-100")
    for old in (out / "checkpoint-500" / "trainer_state.json", out / "completions" / "completions_00500.parquet"):
        os.utime(old, (1.7e9, 1.7e9))
    run = only(store, "trl", out)
    assert curve(store, run, "loss") == {50: 1.0, 100: 1.0}
    assert {row.text for row in list_completions(store, run.id)} == {"new"}
    told = "\n".join(run.config["imported"]["notes"])
    assert "checkpoint-500/trainer_state.json is left out" in told and "completions_00500.parquet" in told


@pytest.mark.parametrize(
    ("trained", "evaluated", "table", "is_evaluation"),
    [
        (0.5, 0.0, 0.0, True),
        (0.5, 0.0, 0.5, False),
        (0.5, 0.5, 0.5, True),
        (0.3, 0.2, 0.5, True),
        (None, 0.0, 0.5, True),
        (0.5, None, 0.5, False),
    ],
)
def test_completions_of_an_evaluation_are_none_of_training(
    store: Store, tmp_path: Path, trained: float | None, evaluated: float | None, table: float, is_evaluation: bool
) -> None:
    history: list[dict[str, Any]] = [{"step": 1, "reward": 1.0, "rewards/format/mean": 1.0}]
    if trained is not None:
        history.append({"step": 2, "reward": trained, "rewards/format/mean": trained})
    if evaluated is not None:
        history.append({"step": 2, "eval_loss": 0.1, "eval_rewards/format/mean": evaluated})
    write_state(tmp_path / "out", history)
    tables = {1: group("a", [1.0, 1.0], "training"), 2: group("b", [table + 0.1, table - 0.1], "second")}
    run = only(store, "trl", write_tables(tmp_path / "out", tables))
    assert {row.step for row in list_completions(store, run.id)} == ({1} if is_evaluation else {1, 2})
    evaluations = list_evaluations(store, run.id)
    assert [each.step for each in evaluations] == ([2] if is_evaluation else [])
    if is_evaluation:
        rows = list(iter_predictions(store, run.id))
        assert [(row.text, row.sample, row.correct) for row in rows] == [("second", 1, None), ("second", 2, None)]
        assert "At step 2, TRL kept the completions of the evaluation" in str(run.config["imported"]["notes"])
    assert import_runs(store, "trl", str(tmp_path / "out")).runs[0].changed == 0


def test_completions_that_changed_replace_those_that_are_here(store: Store, tmp_path: Path) -> None:
    out = write_tables(tmp_path / "out", {1: group("a", [1.0, 0.0], "first")})
    only(store, "trl", out)
    shutil.copy(out / "completions" / "completions_00001.parquet", tmp_path / "kept")
    more = write_tables(tmp_path / "more", {2: group("a", [1.0, 0.0], "second")})
    shutil.copy(more / "completions" / "completions_00002.parquet", out / "completions")
    for _ in range(2):
        (run,) = import_runs(store, "trl", str(out)).runs
        (row,) = list_runs(store)
        assert run.is_new is False
        assert [(each.step, each.text) for each in list_completions(store, row.id)] == [
            *itertools.repeat((1, "first"), 2),
            *itertools.repeat((2, "second"), 2),
        ]


@pytest.mark.parametrize("tool", ["trl", "wandb", "tensorboard", "trackio"])
def test_a_path_that_is_not_there_is_said_so(store: Store, tmp_path: Path, tool: str) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        import_runs(store, tool, str(tmp_path / "nowhere"))
