"""Whatever a script logs, and when: every figure and every completion is stored at its step, once."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from store.completions import emergence
from store.completions.rows import iter_completions, list_groups
from store.db.engine import Store, open_store
from store.db.rows import RunDetail, StoredCompletion
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import list_evaluations
from store.events import list_events
from store.importing.trl_keys import metric_name
from store.jobs import list_jobs
from store.metrics import list_metric_names, read_clock, read_series
from store.recording import folders
from store.runs import get_run, list_runs, resolve_run
from tests.training.shaped import GROUP, Shaped
from trainer.record import direct, vr1z
from trainer.recorder import record

pytestmark = pytest.mark.training

PATTERNS: dict[str, list[dict[str, Any]]] = {
    "logging": [
        *({"logging_steps": steps} for steps in (1, 2, 10, 0.5)),
        {"logging_strategy": "no"},
        {"logging_strategy": "epoch"},
        {"logging_steps": 3, "logging_first_step": True},
    ],
    "evaluation": [
        {},
        *(
            {"eval_sets": sets, "eval_strategy": "steps", "eval_steps": steps}
            for sets, steps in ((1, 1), (2, 1), (1, 5))
        ),
        {"eval_sets": 1, "eval_strategy": "epoch", "eval_on_start": True},
        {"eval_sets": 1, "after": True},
    ],
    "own figures": [{}, {"own_logs": "loss"}, {"own_logs": "callback"}],
    "length": [{}, {"gradient_accumulation_steps": 2}, {"max_steps": 1}, {"include_num_input_tokens_seen": "all"}],
}


def all_pairs() -> list[dict[str, Any]]:
    """Settings in which every two choices of different kinds meet at least once."""
    kinds = list(PATTERNS)
    places = [range(len(PATTERNS[kind])) for kind in kinds]
    open_pairs = {
        ((a, i), (b, j)) for a, b in combinations(range(len(kinds)), 2) for i, j in product(places[a], places[b])
    }
    chosen = []
    candidates = list(product(*places))
    while open_pairs:
        best = max(candidates, key=lambda one: len(open_pairs & set(combinations(enumerate(one), 2))))
        open_pairs -= set(combinations(enumerate(best), 2))
        merged: dict[str, Any] = {}
        for kind, place in zip(kinds, best, strict=True):
            merged |= PATTERNS[kind][place]
        chosen.append(merged)
    return chosen


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("patterns") / "runs.db")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = open_store(url)
    yield store
    store.close()


def found(store: Store, name: str) -> RunDetail:
    return get_run(store, resolve_run(store, name))


def completions(store: Store, run_id: int) -> dict[int, list[StoredCompletion]]:
    rows: dict[int, list[StoredCompletion]] = defaultdict(list)
    for row in iter_completions(store, run_id):
        rows[row.step].append(row)
    return rows


def logged(trainer: Shaped) -> dict[tuple[str, int], float]:
    """What the trainer says that it logged, under the store's names, but for the end's summary and merged rewards."""
    kept: dict[tuple[str, int], float] = {}
    for entry in trainer.state.log_history:
        ends = "train_loss" in entry
        prefix = next(
            (name[: -len("_runtime")] for name in entry if name.startswith("eval_") and "runtime" in name), ""
        )
        for name, value in entry.items():
            if name in ("step", "epoch", "total_flos", "rewards/good/mean") or (ends and name.startswith("train_")):
                continue
            if name.startswith("eval_") and not name.startswith(prefix):
                name = f"{prefix}_{name.removeprefix('eval_')}"
            kept[metric_name(name), entry["step"]] = value
    return kept


def stored(store: Store, run_id: int) -> dict[tuple[str, int], float]:
    curves = read_series(store, run_id, list_metric_names(store, run_id), points=10**6)
    return {
        (name, step): value
        for name, curve in curves.items()
        for step, value in zip(curve.step.tolist(), curve.value.tolist(), strict=True)
    }


@pytest.mark.parametrize("pattern", all_pairs(), ids=lambda pattern: " ".join(f"{k}={v}" for k, v in pattern.items()))
def test_every_figure_and_every_completion_is_stored_at_its_step(
    pattern: dict[str, Any], url: str, store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    pattern = dict(pattern)
    after = pattern.pop("after", False)
    trainer = Shaped(tmp_path, **pattern)
    recorder = record(trainer, name=str(tmp_path), db=url)
    trainer.train()
    if after:
        trainer.evaluate()
    assert recorder is not None
    recorder.close()
    run = found(store, str(tmp_path))
    kept, expected = stored(store, run.id), logged(trainer)
    assert {key: kept.get(key) for key in expected} == pytest.approx(expected)
    steps = trainer.state.max_steps
    rows = completions(store, run.id)
    assert {step: [row.text for row in each] for step, each in rows.items()} == dict(trainer.said)
    answered: dict[int, list[str]] = defaultdict(list)
    for evaluation in list_evaluations(store, run.id):
        answered[evaluation.step] += [row.text for row in iter_predictions_of(store, evaluation.id)]
    assert {step: sorted(texts) for step, texts in answered.items()} == {
        step: sorted(texts) for step, texts in trainer.answered.items()
    }
    assert sorted(rows) == list(range(1, steps + 1))
    for step, each in rows.items():
        groups = list_groups(store, run.id, step)
        assert [len(group.completions) for group in groups] == [GROUP] * (len(each) // GROUP)
        assert len({group.group for group in groups}) == len(groups)
        assert kept["reward/good", step] == pytest.approx(-kept["reward/good (2)", step])
        for name in ("time/step", "time/update", "tokens_per_second"):
            assert kept[name, step] >= 0, name
    assert read_clock(store, run.id).step.tolist() == list(range(1, steps + 1))
    assert (run.status, run.step, run.max_steps) == ("finished", steps, steps)
    assert run.environment["summary"]["train_runtime"] > 0
    assert run.reward_weights == {"good": 1.0, "good (2)": 2.0}
    assert "correct_share" not in list_metric_names(store, run.id), "nobody knows what is right"
    assert list(tmp_path.glob("*.jsonl")) == []
    assert json.loads((recorder.run.folder / vr1z.DELIVERED).read_text())["run"] == run.uid


def test_groups_of_a_step_with_several_generations_are_judged_each(url: str, store: Store, tmp_path: Path) -> None:
    trainer = Shaped(tmp_path, gradient_accumulation_steps=2, max_steps=2)
    recorder = record(trainer, name=str(tmp_path), db=url)
    trainer.train()
    assert recorder is not None
    recorder.close()
    run = found(store, str(tmp_path))
    for step in (1, 2):
        groups = list_groups(store, run.id, step)
        assert [group.group for group in groups] == [0, 1]
        assert [{row.generation for row in group.completions} for group in groups] == [{2 * step - 2}, {2 * step - 1}]
    spread = emergence.emergence(store, run.id).sums["variance"]
    texts = [float(row.text) for row in list_groups(store, run.id, 1)[0].completions]
    mean = sum(texts) / GROUP
    assert spread[0] == pytest.approx(2 * sum((text - mean) ** 2 for text in texts) / GROUP)


def test_rows_of_a_script_are_examples(url: str, store: Store, tmp_path: Path) -> None:
    trainer = Shaped(tmp_path, max_steps=2)
    recorder = record(trainer, name=str(tmp_path), db=url)
    trainer.train()
    assert recorder is not None
    recorder.close()
    for group in list_groups(store, found(store, str(tmp_path)).id, 1):
        assert group.example is not None
        number = group.example.answer
        assert group.example.question == group.example.prompt == f"How many in picture {number}?"
        assert (group.example.gold, group.example.columns) == (str(number), {"level": (number or 0) / 2})
        assert all(row.correct is None and row.wellformed for row in group.completions), "no tags were asked for"


def test_a_second_training_is_a_second_run_and_a_resumed_one_is_not(url: str, store: Store, tmp_path: Path) -> None:
    trainer = Shaped(tmp_path, eval_sets=1, max_steps=4, save_strategy="steps", save_steps=2)
    recorder = record(trainer, name=str(tmp_path), db=url)
    trainer.evaluate()
    trainer.train()
    first = {step: list(texts) for step, texts in trainer.said.items()}
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    resumed = {step: trainer.said[step][len(first[step]) :] for step in (3, 4)}
    before = {step: list(texts) for step, texts in trainer.said.items()}
    trainer.train()
    assert recorder is not None
    recorder.close()
    run = found(store, str(tmp_path))
    texts = {step: [row.text for row in rows] for step, rows in completions(store, run.id).items()}
    assert texts == {1: first[1], 2: first[2]} | resumed
    assert ("eval_reward", 0) in stored(store, run.id)
    assert len(list_jobs(store, run_id=run.id)) == 2 and run.status == "finished"
    second = found(store, f"{tmp_path} (2)")
    texts = {step: [row.text for row in rows] for step, rows in completions(store, second.id).items()}
    assert texts == {step: trainer.said[step][len(before[step]) :] for step in range(1, 5)}


def test_a_resumed_script_goes_on_with_its_run(url: str, store: Store, tmp_path: Path) -> None:
    """In another process, which has another recorder."""
    kept: dict[int, list[str]] = {}
    for checkpoint in (None, str(tmp_path / "checkpoint-2")):
        trainer = Shaped(tmp_path, max_steps=4, save_strategy="steps", save_steps=2)
        recorder = record(trainer, name=str(tmp_path), db=url)
        trainer.train(resume_from_checkpoint=checkpoint)
        assert recorder is not None
        recorder.close()
        kept |= trainer.said
    run = found(store, str(tmp_path))
    assert {step: [row.text for row in rows] for step, rows in completions(store, run.id).items()} == kept
    assert [job.state for job in list_jobs(store, run_id=run.id)] == ["finished", "finished"]


def test_what_was_sampled_before_a_fault_of_the_script_is_kept(url: str, store: Store, tmp_path: Path) -> None:
    class Fails(Shaped):
        def compute_loss(self, *args: Any, **named: Any) -> Any:
            loss = super().compute_loss(*args, **named)
            if self.state.global_step == 2:
                raise ZeroDivisionError
            return loss

    trainer = Fails(tmp_path)
    recorder = record(trainer, name=str(tmp_path), db=url)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert recorder is not None
    recorder.close()
    run = found(store, str(tmp_path))
    assert run.status == "failed"
    assert sorted(completions(store, run.id)) == [1, 2, 3]


@pytest.mark.parametrize("when", ["before", "begin", "middle", "end"])
def test_a_locked_database_ends_and_delays_nothing(
    when: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "BUSY_SECONDS", 0.1)
    path = tmp_path / "runs.db"
    open_store(str(path)).close()
    lock = sqlite3.connect(path, isolation_level=None)

    class Locks(Shaped):
        def compute_loss(self, *args: Any, **named: Any) -> Any:
            if {"middle": 2, "end": 4}.get(when) == self.state.global_step and not lock.in_transaction:
                lock.execute("BEGIN EXCLUSIVE")
            return super().compute_loss(*args, **named)

    if when == "before":
        lock.execute("BEGIN EXCLUSIVE")
    trainer = Locks(tmp_path / "out")
    recorder = record(trainer, name="mine", db=str(path))
    if when == "begin":
        lock.execute("BEGIN EXCLUSIVE")
    start = time.monotonic()
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert time.monotonic() - start < 10
    assert "records are kept in" in caplog.text and "Training continues" in caplog.text
    assert recorder is not None
    recorder.close()
    (left,) = (tmp_path / "out").glob("vr1z-*")
    assert left == recorder.run.folder
    assert f"python -m store sync {left}" in caplog.text
    lock.execute("ROLLBACK")
    lock.close()
    store = open_store(str(path))
    (taken,) = folders.sync(store, [tmp_path / "out"])
    assert taken.run == recorder.run.uid and taken.new and not taken.problem
    assert folders.sync(store, [left]) == [taken._replace(new=0)]
    run = found(store, "mine")
    assert {step: [row.text for row in rows] for step, rows in completions(store, run.id).items()} == dict(trainer.said)
    assert (run.status, run.step) == ("finished", 5)
    expected = logged(trainer)
    kept = stored(store, run.id)
    assert {key: kept.get(key) for key in expected} == pytest.approx(expected)
    store.close()


def test_a_database_that_comes_back_gets_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "BUSY_SECONDS", 0.1)
    path = tmp_path / "runs.db"
    open_store(str(path)).close()
    lock = sqlite3.connect(path, isolation_level=None)

    class Away(Shaped):
        def compute_loss(self, *args: Any, **named: Any) -> Any:
            if self.state.global_step == 1 and not lock.in_transaction:
                lock.execute("BEGIN EXCLUSIVE")
            if self.state.global_step == 3 and lock.in_transaction:
                while not warned.is_set():
                    time.sleep(0.01)
                lock.execute("ROLLBACK")
            return super().compute_loss(*args, **named)

    monkeypatch.setattr(vr1z, "RETRY_SECONDS", 0.0)
    warned = threading.Event()
    monkeypatch.setattr(vr1z.Courier, "warn", lambda self, text: warned.set())
    trainer = Away(tmp_path / "out")
    recorder = record(trainer, name="mine", db=str(path))
    trainer.train()
    assert recorder is not None
    recorder.close()
    lock.close()
    store = open_store(str(path))
    run = found(store, "mine")
    assert {step: [row.text for row in rows] for step, rows in completions(store, run.id).items()} == dict(trainer.said)
    assert run.status == "finished"
    assert not {event.kind for event in list_events(store, run.id)} & {"recording_resumed", "recording_failed"}
    store.close()


def test_what_another_run_left_stays_where_it_is(url: str, store: Store, tmp_path: Path) -> None:
    for name in ("unwritten.jsonl", "unwritten-0123456789.jsonl"):
        (tmp_path / name).write_text('{"step": 3, "metrics": {"loss": 9.0}}\n')
    trainer = Shaped(tmp_path, max_steps=4)
    recorder = record(trainer, name=str(tmp_path), db=url)
    trainer.train()
    assert recorder is not None
    recorder.close()
    run = found(store, str(tmp_path))
    assert {key: value for key, value in stored(store, run.id).items() if key[0] == "loss"} == pytest.approx(
        {key: value for key, value in logged(trainer).items() if key[0] == "loss"}
    )
    assert len(list(tmp_path.glob("unwritten*"))) == 2


@pytest.mark.parametrize("missing", ["_calculate_rewards", "_generate_and_score_completions", "processing_class"])
def test_a_trainer_of_another_version_goes_on(missing: str, url: str, store: Store, tmp_path: Path) -> None:
    """What it lacks is not recorded; the rest is, and nothing is raised."""
    trainer = Shaped(tmp_path, max_steps=2)
    if missing == "processing_class":
        trainer.processing_class = None  # type: ignore[assignment]
    elif missing == "_calculate_rewards":
        scores = trainer._calculate_rewards
        trainer._calculate_rewards = lambda *args, **named: scores(*args, **named)  # type: ignore[method-assign]
        trainer.reward_func_names = None  # type: ignore[assignment]
    else:
        trainer._generate_and_score_completions = lambda rows: MappingProxyType({})  # type: ignore
    recorder = record(trainer, name=str(tmp_path), db=url)
    trainer.train()
    assert recorder is not None
    recorder.close()
    run = found(store, str(tmp_path))
    assert (run.status, run.step) == ("finished", 2)
    assert ("loss", 2) in stored(store, run.id)


def test_a_trainer_that_is_recorded_twice_is_one_run(
    url: str, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Shaped(tmp_path, max_steps=2)
    recorder = record(trainer, name=str(tmp_path), db=url)
    assert recorder is not None and record(trainer, name="again", db=url) is recorder
    trainer.train()
    run = found(store, recorder.run_uid)
    assert {step: len(rows) for step, rows in completions(store, run.id).items()} == {1: GROUP, 2: GROUP}
    assert "again" not in [each.name for each in list_runs(store)]
    assert "This trainer is already being recorded" in caplog.text


def test_what_is_no_trainer_ends_no_script(caplog: pytest.LogCaptureFixture) -> None:
    assert vr1z.record(object(), name="mine") is None
    assert "This trainer cannot be recorded (AttributeError" in caplog.text
