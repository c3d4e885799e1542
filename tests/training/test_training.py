"""Real GRPO and SFT runs of the embedded model, small enough for every test run."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from store import trace
from store.completions.rows import list_completions, list_groups
from store.db.engine import Store
from store.db.rows import RunDetail
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import list_evaluations
from store.events import list_checkpoints
from store.jobs import ask_stop, get_job
from store.metrics import list_metric_names, read_series
from store.runs import get_run
from tests.training.conftest import SMALL, Train
from trainer import launch
from trainer.jobs.job import execute
from trainer.spec import config, rewards

pytestmark = pytest.mark.training


def curve(store: Store, run: RunDetail, name: str) -> tuple[list[int], list[float]]:
    series = read_series(store, run.id, [name])[name]
    return series.step.tolist(), series.value.tolist()


def test_a_grpo_run_records_every_completion_with_its_group_rewards_and_advantage(store: Store, train: Train) -> None:
    run = train("shapes-grpo")
    assert run.status == "finished", run.job
    assert run.step == 3
    for step in (1, 2, 3):
        groups = list_groups(store, run.id, step)
        assert [len(group.completions) for group in groups] == [8, 8]
        for group in groups:
            assert group.example is not None and group.example.images
            advantages = [c.advantage for c in group.completions]
            assert sum(a or 0.0 for a in advantages) == pytest.approx(0, abs=1e-3)
            for c in group.completions:
                parsed = trace.parse(c.text)
                assert (c.wellformed, c.answer, c.reasoning_steps) == (
                    parsed.wellformed,
                    parsed.answer,
                    parsed.counted_steps,
                )
                assert c.correct == (parsed.answer == group.example.answer)
                truth = [group.example.answer]
                assert c.rewards["format"] == rewards.format_reward([c.text])[0]
                assert c.rewards["accuracy"] == rewards.accuracy_reward([c.text], answer=truth)[0]
                assert c.rewards["steps"] == pytest.approx(rewards.steps_reward([c.text])[0], abs=1e-6)
                weighted = sum(weight * (c.rewards[name] or 0.0) for name, weight in run.reward_weights.items())
                assert c.reward == pytest.approx(weighted)


def test_step_means_are_the_means_of_the_stored_completions(store: Store, train: Train) -> None:
    run = train("shapes-grpo")
    steps, reward = curve(store, run, "reward")
    for step, value in zip(steps, reward, strict=True):
        stored = [c.reward for group in list_groups(store, run.id, step) for c in group.completions]
        assert value == pytest.approx(np.mean([r for r in stored if r is not None]), abs=1e-5)


def test_gradient_accumulation_loses_no_completion(store: Store, train: Train) -> None:
    run = train("shapes-grpo", {"optimization.accumulation": "2"})
    assert [len(g.completions) for g in list_groups(store, run.id, 2)] == [8, 8]


def test_an_sft_run_has_reward_curves_from_the_probe(store: Store, train: Train) -> None:
    run = train("shapes-sft", {"evaluation.probe_every": "1"})
    assert run.status == "finished", run.job
    assert curve(store, run, "loss")[0] == [1, 2, 3]
    for name in ("probe/reward", "probe/reward/format", "probe/reward/accuracy", "probe/reward/steps", "probe/kl"):
        assert curve(store, run, name)[0] == [0, 1, 2, 3], name
    assert curve(store, run, "probe/kl")[1][0] == pytest.approx(0, abs=1e-6)
    assert curve(store, run, "probe/kl")[1][-1] > 0
    kinds = Counter(e.kind for e in list_evaluations(store, run.id))
    assert kinds == {"probe": 4, "val": 3, "test": 1}


def test_the_test_split_is_answered_once_after_validation_has_chosen(store: Store, train: Train) -> None:
    run = train("shapes-grpo", {"optimization.steps": "4", "evaluation.val_every": "1"})
    found = list_evaluations(store, run.id)
    (tested,) = [each for each in found if each.kind == "test"]
    looked = [each for each in found if each.kind != "test"]
    asked = {each.id: {row.example for row in iter_predictions_of(store, each.id)} for each in found}
    assert not asked[tested.id] & set().union(*(asked[each.id] for each in looked))
    assert all(each.ended_at is not None and each.ended_at <= tested.started_at for each in looked)
    best = next(row for row in list_checkpoints(store, run.id) if row.kind == "best")
    right = {each.step: each.metrics["exact_match"] for each in looked if each.kind == "val" and each.step}
    assert best.created_at <= tested.started_at
    assert (best.step, best.value) == (
        next(s for s in sorted(right) if right[s] == max(right.values())),
        max(right.values()),
    )
    assert tested.step == best.step


def test_the_time_of_a_step_holds_no_evaluation(store: Store, train: Train) -> None:
    """Every update is followed by a probe that takes far longer than the update itself."""
    run = train(
        "shapes-sft", {"evaluation.probe_every": "1", "evaluation.probe_examples": "6", "evaluation.probe_samples": "8"}
    )
    probes = [e.ended_at - e.started_at for e in list_evaluations(store, run.id) if e.kind == "probe" and e.ended_at]
    assert max(curve(store, run, "time/step")[1][1:]) < min(probes)


@pytest.mark.parametrize("preset", ["shapes-grpo", "shapes-sft"])
def test_the_same_seeds_give_the_same_run(store: Store, train: Train, preset: str) -> None:
    first, second = train(preset), train(preset)
    names = [n for n in list_metric_names(store, first.id) if not n.startswith("time/") and n != "tokens_per_second"]
    assert names
    for name in names:
        assert curve(store, first, name) == curve(store, second, name), name
    texts = [[c.text for c in list_completions(store, run.id, limit=1000)] for run in (first, second)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("preset", ["shapes-grpo", "shapes-sft"])
def test_a_stopped_and_resumed_run_equals_one_never_stopped(store: Store, train: Train, preset: str) -> None:
    settings = {"optimization.steps": "4"}
    whole = train(preset, settings)
    stopped = stop_when(store, preset, settings, lambda run: run.step >= 1)
    assert 1 <= stopped.step < 4
    equals(store, resumed(store, stopped), whole)


@pytest.mark.parametrize(("preset", "examples"), [("shapes-grpo", "6"), ("shapes-sft", "24")])
def test_a_run_resumed_in_a_later_epoch_sees_its_examples_in_that_epochs_order(
    store: Store, train: Train, preset: str, examples: str
) -> None:
    settings = {"optimization.steps": "9", "data.train_examples": examples, "evaluation.val_every": "4"}
    whole = train(preset, settings)
    stopped = stop_when(store, preset, settings, lambda run: run.step >= 5)
    equals(store, resumed(store, stopped), whole)


@pytest.mark.parametrize("step", [2, 4], ids=["between", "last"])
def test_a_stop_during_a_validation_is_obeyed_after_the_batch_and_the_rest_follows_later(
    store: Store, train: Train, step: int
) -> None:
    settings = {"optimization.steps": "4", "data.val_examples": "12", "evaluation.batch_size": "1"}
    whole = train("shapes-sft", settings)

    def has_begun(run: RunDetail) -> bool:
        return any((e.kind, e.step) == ("val", step) for e in list_evaluations(store, run.id))

    stopped = stop_when(store, "shapes-sft", settings, has_begun)
    (left,) = [e for e in list_evaluations(store, stopped.id) if e.ended_at is None]
    assert (left.kind, left.step, stopped.step) == ("val", step, step)
    assert 0 < len(list(iter_predictions_of(store, left.id))) < 12
    assert [(row.kind, row.step) for row in list_checkpoints(store, stopped.id)][-1] == ("last", step)
    equals(store, resumed(store, stopped), whole)


def stop_when(store: Store, preset: str, settings: dict[str, str], when: Callable[[RunDetail], bool]) -> RunDetail:
    """A run that was asked to stop as soon as something was so."""
    made, job = launch.create(store, config.override(config.preset(preset), SMALL | settings))

    def ask() -> None:
        while not when(get_run(store, made.id)):
            time.sleep(0.005)
        ask_stop(store, job.id)

    stopper = threading.Thread(target=ask)
    stopper.start()
    assert execute(store, get_job(store, job.uid)) == 143
    stopper.join()
    stopped = get_run(store, made.id)
    assert stopped.status == "stopped"
    return stopped


def resumed(store: Store, stopped: RunDetail) -> RunDetail:
    again = launch.add_resume(store, stopped.id)
    assert execute(store, get_job(store, again.uid)) == 0
    run = get_run(store, stopped.id)
    assert run.status == "finished"
    return run


def equals(store: Store, run: RunDetail, other: RunDetail) -> None:
    """The same curves but for time, and the same texts."""
    names = [name for name in list_metric_names(store, other.id) if "time/" not in name and "per_second" not in name]
    assert {"loss", "tokens", "probe/reward", "val/accuracy", "test/accuracy"} <= set(names)
    assert sorted(list_metric_names(store, run.id)) == sorted(list_metric_names(store, other.id))
    for name in names:
        steps, values = curve(store, other, name)
        assert curve(store, run, name)[0] == steps, name
        assert curve(store, run, name)[1] == pytest.approx(values, abs=1e-5, nan_ok=True), name
    texts = [[c.text for c in list_completions(store, each.id, limit=1000)] for each in (run, other)]
    assert texts[0] == texts[1]
    kinds = [Counter((e.kind, e.step) for e in list_evaluations(store, each.id)) for each in (run, other)]
    assert kinds[0] == kinds[1]
    best = [[(row.kind, row.step, row.value) for row in list_checkpoints(store, each.id)] for each in (run, other)]
    assert sorted(best[0]) == sorted(best[1])
