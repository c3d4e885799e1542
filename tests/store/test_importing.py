"""Runs of other tools: what their files say is here once, and what they do not say is not here."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from store.__main__ import main
from store.completions.rows import list_completions, list_groups
from store.db.connection import StoreError
from store.db.engine import Store
from store.db.rows import RunDetail
from store.events import list_events
from store.importing.found import NO_NUMBER, FoundRun
from store.importing.saving import UNKNOWN, import_runs
from store.importing.trl_tables import NO_REWARD
from store.metrics import list_metric_names, read_clock, read_series
from store.runs import get_run, list_runs, resolve_run
from tests.pages.test_trace_view import HOSTILE

IMPORTED = Path(__file__).with_name("imported")
"""Written by W&B 0.31, TensorBoard 2.21 through torch, and Trackio 0.43 (its database as SQL)."""
GOOD = "<think>1. red</think><answer>1</answer>"


def write_tables(folder: Path, steps: dict[int, Sequence[dict[str, Any]]]) -> Path:
    """What GRPOTrainer.log writes for each step."""
    (folder / "completions").mkdir(parents=True)
    for step, rows in steps.items():
        table = pd.DataFrame([{"step": step, **row} for row in rows])
        table.to_parquet(folder / "completions" / f"completions_{step:05d}.parquet")
    return folder


def write_state(folder: Path, history: list[dict[str, Any]], name: str = "checkpoint-2") -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    state = {"global_step": len(history), "max_steps": 10, "log_history": history}
    (folder / name / "trainer_state.json").write_text(json.dumps(state))


def group(prompt: object, rewards: Sequence[float], text: object = GOOD) -> list[dict[str, Any]]:
    mean = sum(rewards) / len(rewards)
    return [
        {"prompt": prompt, "completion": text, "format": value, "accuracy": None, "advantage": value - mean}
        for value in rewards
    ]


def only(store: Store, tool: str, path: Path, name: str | None = None) -> RunDetail:
    (made,) = import_runs(store, tool, str(path), name).runs
    assert made.is_new
    return get_run(store, resolve_run(store, made.uid))


def curve(store: Store, run: RunDetail, name: str) -> dict[int, float]:
    found = read_series(store, run.id, [name], points=1000)[name]
    return dict(zip(found.step.tolist(), found.value.tolist(), strict=True))


def test_trl_completions_come_with_metrics_and_their_weights(store: Store, tmp_path: Path) -> None:
    history = [
        {
            "step": 1,
            "reward": 0.75,
            "rewards/format/mean": 0.75,
            "rewards/format/std": 0.1,
            "loss": math.nan,
            "epoch": 1,
        },
        {"step": 2, "reward": 0.25, "rewards/format/mean": 0.25, "num_tokens": 90},
        {"step": 2, "train_runtime": 9.0, "train_loss": 0.1},
    ]
    write_state(tmp_path / "out", history)
    write_state(tmp_path / "out", history[:1], "checkpoint-1")
    write_tables(tmp_path / "out", {1: group("How many?", [1.0, 0.5]), 2: group("How many?", [0.5, 0.0])})
    run = only(store, "trl", tmp_path / "out")
    assert (run.name, run.method, run.style, run.status) == ("out", "grpo", "cot", None)
    assert (run.step, run.max_steps, run.seed, run.lora_rank, run.model) == (2, 10, None, None, UNKNOWN)
    assert run.reward_weights == {"format": 1.0}
    assert curve(store, run, "reward") == {1: 0.75, 2: 0.25}
    assert "train_loss" not in list_metric_names(store, run.id) and "epoch" not in list_metric_names(store, run.id)
    assert math.isnan(curve(store, run, "loss")[1])
    assert len(read_clock(store, run.id).step) == 0  # nothing says when
    row = list_completions(store, run.id)[0]
    assert (row.wellformed, row.answer, row.reasoning_steps, row.think_text) == (True, 1, 1, "1. red")
    assert (row.correct, row.truth, row.tokens) == (None, None, None)
    assert (row.reward, row.rewards, row.advantage) == (1.0, {"format": 1.0}, 0.25)


def test_groups_are_told_only_where_nothing_else_can_be(store: Store, tmp_path: Path) -> None:
    twice = [*group("b", [1.0, 0.0]), *group("b", [1.0, 1.0])]
    off = [row | {"advantage": 1.0} for row in group("c", [1.0, 0.0])]
    folder = write_tables(tmp_path / "out", {7: [*group("a", [1.0, 0.0])[::-1], *twice, *off, *group("d", [0.0, 0.0])]})
    run = only(store, "trl", folder / "completions")
    told = {
        block.example.question: (block.group, len(block.completions))
        for block in list_groups(store, run.id, 7)
        if block.example
    }
    assert told == {"a": (0, 2), "b": (None, 4), "c": (None, 2), "d": (1, 2)}
    assert run.config["imported"]["notes"][1] == "The group of 6 of 10 completions is unknown; they are marked."
    assert run.reward_weights == {} and {row.reward for row in list_completions(store, run.id)} == {None}


def test_an_odd_number_of_equal_prompts_is_no_group(store: Store, tmp_path: Path) -> None:
    rows = [*group("a", [1.0, 0.0, 0.5]), *group("b", [1.0, 0.0])]
    run = only(store, "trl", write_tables(tmp_path / "out", {1: rows}))
    assert {row.group for row in list_completions(store, run.id)} == {None}


def test_messages_and_hostile_texts_are_kept_as_they_are(store: Store, tmp_path: Path) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in (*HOSTILE, "x" * 100_000)]
    rows = [
        {"prompt": [{"role": "user", "content": text}], "completion": [{"role": "assistant", "content": text}], "r": 1}
        for text in texts
    ]
    run = only(store, "trl", write_tables(tmp_path / "<b>", {1: rows}))
    assert [row.text for row in list_completions(store, run.id)] == [text.replace("\0", "\ufffd") for text in texts]
    assert all(row.rewards == {"r": 1.0} and row.advantage is None for row in list_completions(store, run.id))


def test_other_trackers_bring_their_metrics(store: Store, tmp_path: Path) -> None:
    run = only(store, "wandb", IMPORTED)
    assert (run.name, run.model, run.seed, run.method) == ("cows <b>", "acme/vlm-2b", 7, "unknown")
    assert run.reward_weights == {"accuracy": 2.0, "format": 1.0}
    assert sorted(curve(store, run, "reward")) == [5 * step for step in range(1, 13)]
    assert math.isnan(curve(store, run, "loss")[15]) and math.isnan(curve(store, run, "big")[10])
    assert read_clock(store, run.id).at[0] == pytest.approx(1795379701, abs=100)

    run = only(store, "tensorboard", IMPORTED, "another name")
    assert (run.name, run.model) == ("another name", UNKNOWN)
    assert curve(store, run, "reward")[40] == pytest.approx(0.8)
    assert curve(store, run, "eval/loss") == {40: 0.0}

    (tmp_path / "trackio").mkdir()
    database = sqlite3.connect(tmp_path / "trackio" / "counting.db")
    database.executescript((IMPORTED / "trackio.sql").read_text())
    database.close()
    first, second = import_runs(store, "trackio", str(tmp_path / "trackio")).runs
    assert (first.name, second.name) == ("first", "second <b>")
    run = get_run(store, resolve_run(store, first.uid))
    assert (run.seed, run.model) == (7, "acme/vlm-2b")
    assert curve(store, run, "reward")[5] == 0.1 and math.isnan(curve(store, run, "loss")[15])


def test_a_config_brings_neither_secrets_nor_endless_depth(store: Store, tmp_path: Path) -> None:
    (tmp_path / "trackio").mkdir()
    database = sqlite3.connect(tmp_path / "trackio" / "counting.db")
    database.executescript((IMPORTED / "trackio.sql").read_text())
    config = f'{{"hub_token": "hf_abcdefgh", "deep": {"[" * 400}{"]" * 400}, "seed": -1}}'
    database.execute("UPDATE configs SET config = ?", (config,))
    database.commit()
    database.close()
    first, _ = import_runs(store, "trackio", str(tmp_path / "trackio")).runs
    run = get_run(store, resolve_run(store, first.uid))
    assert run.config["recorded"]["hub_token"] == "[redacted]"
    assert "…" in str(run.config["recorded"]["deep"])
    assert run.seed is None


@pytest.mark.parametrize("tool", ["wandb", "tensorboard"])
def test_a_run_comes_once(store: Store, tool: str, tmp_path: Path) -> None:
    (made,) = import_runs(store, tool, str(IMPORTED)).runs
    shutil.copytree(IMPORTED, tmp_path / "moved")
    (again,) = import_runs(store, tool, str(tmp_path / "moved"), "anew").runs
    assert (again.uid, again.name, again.is_new) == (made.uid, made.name, False)
    assert len(list_runs(store)) == 1


@pytest.mark.parametrize(
    ("tool", "name"), [("wandb", "run-x.wandb"), ("tensorboard", "tfevents.x"), ("trackio", "x.db")]
)
def test_what_is_cut_off_or_damaged_is_no_crash(store: Store, tool: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\xff" * 1000)
    with pytest.raises(StoreError, match=r"is not a"):
        import_runs(store, tool, str(tmp_path))
    if tool != "trackio":
        whole = next(IMPORTED.glob(f"*{tool}*" if tool == "wandb" else "*tfevents*")).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        (cut,) = import_runs(store, tool, str(tmp_path)).runs
        assert 0 < cut.steps < 12


@pytest.mark.parametrize("tool", ["trl", "wandb", "tensorboard", "trackio"])
def test_where_there_is_nothing_a_sentence_says_so(
    tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", tool, str(tmp_path), "--db", str(tmp_path / "new.sqlite")]) == 2
    assert "has n" in capsys.readouterr().err


def test_damaged_files_of_trl_are_named_and_the_others_come_in(store: Store, tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "out", {1: group("a", [1.0, 0.0])})
    (folder / "completions" / "completions_00002.parquet").write_bytes(b"PAR1 nonsense")
    (folder / "completions" / "completions_00003.parquet").write_bytes(b"")
    (folder / "trainer_state.json").write_text("[" * 100_000)
    write_state(folder, [{"step": 1, "loss": 0.5}])
    run = only(store, "trl", folder)
    assert curve(store, run, "loss") == {1: 0.5} and len(list_completions(store, run.id)) == 2
    told = "\n".join(run.config["imported"]["notes"])
    for name in ("completions_00002.parquet is not a valid parquet file", "completions_00003.parquet is empty"):
        assert name in told
    assert "trainer_state.json is not valid JSON" in told
    assert told in next(event.message for event in list_events(store, run.id) if event.kind == "imported")


def test_the_command_says_what_it_did(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("imported mine", "already imported, nothing new: mine"):
        assert main(["import", "wandb", str(IMPORTED), "--name", "mine", "--db", store.url]) == 0
        assert capsys.readouterr().out.startswith(f"{words} (")


@pytest.mark.parametrize(
    ("last", "weights"),
    [
        ({"loss": 1.0}, {"accuracy": 2.0, "format": 0.5}),
        ({"reward": 1.0, "rewards/format/mean": 1.0, "rewards/accuracy/mean": 1.0}, {}),
        ({"reward": 2.5, "rewards/format/mean": 1.0, "rewards/accuracy/mean": 1.0}, {"accuracy": 2.0, "format": 0.5}),
        ({"reward": 2.5, "rewards/format/mean": math.nan}, {}),
    ],
)
def test_weights_are_told_only_where_they_explain_every_reward(
    last: dict[str, float], weights: dict[str, float]
) -> None:
    run = FoundRun("x", "x")
    for step, (format, accuracy) in enumerate([(1.0, 0.0), (0.5, 1.0), (0.0, 0.25), (0.75, 0.5)]):
        told = {"rewards/format/mean": format, "rewards/accuracy/mean": accuracy}
        run.add(step, told | {"reward": 0.5 * format + 2 * accuracy})
    run.add(9, last)
    run.settle()
    assert run.weights() == weights


@pytest.mark.parametrize("step", [None, -1, 2**40, 1.5, "3", math.nan, True])
def test_numbers_that_are_no_step_are_left_out(step: object) -> None:
    run = FoundRun("x", "x")
    run.add(step, {"loss": 1.0})
    assert run.metrics == {}


def test_a_gold_answer_beside_the_rewards_is_one(store: Store, tmp_path: Path) -> None:
    rows = [row | {"solution": "<answer> 4 </answer>", "seen": "x"} for row in group("a <answer>", [1.0, 0.0])]
    rows[0]["completion"] = "<answer>4</answer>"
    run = only(store, "trl", write_tables(tmp_path / "out", {1: rows}))
    assert [row.correct for row in list_completions(store, run.id)] == [True, False]
    assert f"{NO_REWARD}: seen." in run.config["imported"]["notes"]


def test_numbers_that_a_log_holds_as_text_are_numbers(store: Store, tmp_path: Path) -> None:
    entries = [{"step": "1.0", "loss": "0.5", "learning_rate": "1e-05", "phase": "warm 2"}]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "trainer_state.json").write_text(json.dumps({"log_history": entries}))
    run = only(store, "trl", tmp_path / "out")
    assert (curve(store, run, "loss"), curve(store, run, "learning_rate")) == ({1: 0.5}, {1: 1e-05})
    assert run.config["imported"]["notes"] == [f"{NO_NUMBER}: phase."]


def test_a_folder_in_which_nothing_was_logged_is_said_to_be_one(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "trainer_state.json").write_text("{}")
    run = only(store, "trl", tmp_path / "out")
    assert run.config["imported"]["notes"] == ["Its files hold neither figures nor completions yet."]
