"""Runs at equal cost, and total rewards under one definition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.compare import equal_cost, figures
from app.compare.equal_cost import AccuracyPoint, Budget, Measurements
from app.compare.figures import AccuracyCurve, Rewarded
from app.compare.groups import Group, Member
from app.shared.conditions import running_tokens
from app.shared.rescoring import Scheme, mean_total
from store.db.engine import Store, open_store
from store.db.rows import Clock, ExampleRow, PredictionRow, Series
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import begin_evaluation, list_evaluations, record_predictions
from store.events import list_checkpoints
from store.examples import add_examples
from store.metrics import read_clock, read_running_total
from store.runs import get_run, list_runs
from store.steps import record_metrics
from tests import compared, seeded
from trainer.spec import rewards
from trainer.spec.config import RunConfig


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """SFT (600 updates of 32 examples) and GRPO (200 updates of 8 examples, 8 times each)."""
    opened = open_store(str(tmp_path_factory.mktemp("matched") / "runs.db"))
    compared.fill(opened, replace(compared.TABLES, ranks=(32,)), n=20)
    return opened


def member(store: Store, method: str) -> Member:
    run = get_run(store, next(row.id for row in list_runs(store) if row.method == method))
    return Member(run, list_evaluations(store, run.id), list_checkpoints(store, run.id))


def measurements(store: Store, method: str) -> Measurements:
    found = member(store, method)
    seconds = read_running_total(store, found.run.id, "time/step")
    cost = equal_cost.cost(found.run, read_clock(store, found.run.id), seconds)
    return Measurements(method, Group((found,)), equal_cost.measured_points(found, "val"), cost)


@pytest.mark.parametrize(
    ("budget", "sft", "grpo"),
    [
        ("updates", [0, 300, 600], [0, 100, 200]),
        ("examples", [0, 9600, 19200], [0, 800, 1600]),
        ("device seconds", [0, 300, 600], [0, 100, 200]),
        ("tokens", [0, 270_000, 540_000], [0, 90_000, 180_000]),
    ],
)
def test_what_each_measurement_had_cost(store: Store, budget: Budget, sft: list[int], grpo: list[int]) -> None:
    assert measurements(store, "sft").places(budget).tolist() == sft
    assert measurements(store, "grpo").places(budget).tolist() == grpo


def test_runs_are_compared_at_the_largest_budget_that_all_reached(store: Store) -> None:
    """SFT was measured after 0 and after 9,600 examples, GRPO's 1,600 lie between."""
    both = [measurements(store, method) for method in ("sft", "grpo")]
    most = equal_cost.largest(both, "examples")
    assert most == 1600
    sft, grpo = (equal_cost.reached_within(each, "examples", most) for each in both)
    assert sft.point is not None and sft.beyond is not None and grpo.point is not None
    assert (sft.point.step, sft.cost, sft.beyond.step, sft.cost_beyond) == (0, 0, 300, 9600)
    assert (grpo.point.step, grpo.cost, grpo.beyond) == (200, 1600, None)
    assert equal_cost.largest(both, "updates") == 200


def test_tests_have_no_part_in_it(store: Store) -> None:
    found = member(store, "grpo")
    untested = found._replace(evaluations=[each for each in found.evaluations if each.kind == "val"])
    assert any(each.kind == "test" for each in found.evaluations)
    assert equal_cost.measured_points(found, "val") == equal_cost.measured_points(untested, "val")


def test_the_newest_measurement_of_a_step_counts_and_a_probe_counts_its_greedy_answers(store: Store) -> None:
    found = member(store, "grpo")
    val = next(each for each in found.evaluations if each.kind == "val" and each.step == 100)
    again = val._replace(id=9_999, metrics={**val.metrics, "exact_match": 0.5})
    assert AccuracyPoint(100, 10, 20) in equal_cost.measured_points(found._replace(evaluations=[again, val]), "val")
    samples = found.run.config["evaluation"]["probe_samples"]
    probe = val._replace(kind="probe", total=6 * (1 + samples), metrics={"accuracy": 1 / 3})
    assert equal_cost.measured_points(found._replace(evaluations=[probe]), "probe") == [AccuracyPoint(100, 2, 6)]


def test_a_resumed_run_has_spent_the_tokens_of_both_parts() -> None:
    assert running_tokens(np.array([10.0, 20.0, 5.0, 15.0])).tolist() == [10, 20, 25, 35]


def test_what_was_not_recorded_is_not_known(store: Store) -> None:
    run = member(store, "sft").run
    steps = np.array([1, 2])
    clock = Clock(steps, np.array([0.0, 1.0]), np.full(2, np.nan))
    cost = equal_cost.cost(run, clock, Series(np.array([], np.int64), np.array([]), 0))
    silent = Measurements("x", Group((member(store, "sft"),)), [AccuracyPoint(2, 1, 2)], cost)
    assert equal_cost.largest([silent], "tokens") is equal_cost.largest([silent], "device seconds") is None
    assert equal_cost.largest([silent], "examples") == 64


def test_the_running_total_is_exact_however_long_the_run(tmp_path: Path) -> None:
    opened = open_store(str(tmp_path / "runs.db"))
    run = seeded.new_run(opened, seeded.config("shapes-grpo"))
    values = np.random.default_rng(0).random(1500)
    for step, value in enumerate(values.tolist(), 1):
        record_metrics(opened, run.id, step, {"time/step": value, "other": 1.0})
    record_metrics(opened, run.id, 1501, {"time/step": None})
    found = read_running_total(opened, run.id, "time/step")
    assert found.step.tolist() == list(range(1, 1501))
    assert found.value == pytest.approx(np.cumsum(values))
    assert len(read_running_total(opened, run.id, "missing").step) == 0


def test_methods_differ_by_colour_and_dash_and_ranks_by_their_marks() -> None:
    tracks = [
        AccuracyCurve(name, method, rank, np.array([0.0, 5.0]), [1, 3], [4, 4])
        for name, method, rank in (("a", "grpo", 0), ("b", "grpo", 1), ("c", "sft", 0))
    ]
    figure = figures.accuracy_chart(tracks, "updates", 4.0)
    lines = {trace.uid: trace for trace in figure.data if trace.uid in "abc"}
    assert len({line.line.color for line in lines.values()}) == 3
    assert lines["a"].line.dash != lines["c"].line.dash
    assert lines["a"].marker.symbol == lines["c"].marker.symbol != lines["b"].marker.symbol
    assert list(lines["a"].y) == [0.25, 0.75] and figure.layout.shapes[0].x0 == 4.0
    totals = [Rewarded("r", "sft", 0, np.array([1.0]), np.array([2.0]))]
    assert [list(trace.y) for trace in figures.rewards(totals, "updates").data] == [[2.0]]


TEXTS = ("<think>1. a red dot</think><answer>2</answer>", "no idea")


def predictions(store: Store, recorded: list[dict[str, float | None]]) -> list[Any]:
    """Two stored predictions with what was recorded of their rewards; the true count is 2."""
    run = seeded.new_run(store, seeded.config("shapes-grpo"))
    ids = add_examples(
        store, [ExampleRow(dataset="d", split="val", key=str(i), question="?", answer=2) for i in range(2)]
    )
    evaluation = begin_evaluation(
        store, run.id, benchmark="d", split="val", kind="probe", step=0, conditions={}, encoder=None, total=2
    )
    rows = [
        PredictionRow(text=text, wellformed=text != "no idea", correct=True, example_id=id, rewards=known)
        for text, id, known in zip(TEXTS, ids, recorded, strict=True)
    ]
    record_predictions(store, evaluation, rows)
    return list(iter_predictions_of(store, evaluation))


def test_a_total_under_another_definition(tmp_path: Path) -> None:
    """Recorded values are used; what was not recorded is computed by the trainer's rewards, or there is no total."""
    rows = predictions(open_store(str(tmp_path / "runs.db")), [{"format": 1.0, "mine": 4.0}, {"format": 0.0}])
    config = RunConfig()
    assert mean_total(rows, config, Scheme({"format": 2.0})) == 1.0
    accuracy = rewards.accuracy_reward(list(TEXTS), answer=[2, 2])
    assert mean_total(rows, config, Scheme({"accuracy": 1.0, "format": 2.0})) == np.mean(accuracy) + 1.0
    assert mean_total(rows, config, Scheme({"format": 2.0, "mine": 1.0})) == 3.0
    assert mean_total(rows, config, Scheme({"cosine": 1.0})) is None
    assert mean_total(rows, config, Scheme({"cosine": 0.0, "format": 2.0})) == 1.0
    assert mean_total([], config, Scheme({"format": 1.0})) is None
