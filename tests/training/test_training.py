"""Real GRPO and SFT runs of the embedded model, small enough for every test run."""

from __future__ import annotations

import threading
import time
from collections import Counter

import numpy as np
import pytest

from store import read, write
from store.engine import Store
from store.rows import RunDetail
from tests.training.conftest import SMALL, Train
from trainer import config, launch, rewards, trace
from trainer.job import execute

pytestmark = pytest.mark.training


def curve(store: Store, run: RunDetail, name: str) -> tuple[list[int], list[float]]:
    series = read.series(store, run.id, [name])[name]
    return series.step.tolist(), series.value.tolist()


def test_a_grpo_run_records_every_completion_with_its_group_rewards_and_advantage(store: Store, train: Train) -> None:
    run = train("demo-grpo")
    assert run.status == "finished", run.job
    assert run.step == 3
    for step in (1, 2, 3):
        groups = read.groups(store, run.id, step)
        assert [len(group.completions) for group in groups] == [8, 8]
        for group in groups:
            assert group.example is not None and group.example.images
            advantages = [c.advantage for c in group.completions]
            assert sum(a or 0.0 for a in advantages) == pytest.approx(0, abs=1e-3)
            for c in group.completions:
                parsed = trace.parse(c.text)
                assert (c.wellformed, c.answer, c.steps) == (parsed.wellformed, parsed.answer, parsed.counted_steps)
                assert c.correct == (parsed.answer == group.example.answer)
                truth = [group.example.answer]
                assert c.rewards["format"] == rewards.format_reward([c.text])[0]
                assert c.rewards["accuracy"] == rewards.accuracy_reward([c.text], answer=truth)[0]
                assert c.rewards["steps"] == pytest.approx(rewards.steps_reward([c.text])[0], abs=1e-6)
                weighted = sum(weight * (c.rewards[name] or 0.0) for name, weight in run.reward_weights.items())
                assert c.reward == pytest.approx(weighted)


def test_step_means_are_the_means_of_the_stored_completions(store: Store, train: Train) -> None:
    run = train("demo-grpo")
    steps, reward = curve(store, run, "reward")
    for step, value in zip(steps, reward, strict=True):
        stored = [c.reward for group in read.groups(store, run.id, step) for c in group.completions]
        assert value == pytest.approx(np.mean([r for r in stored if r is not None]), abs=1e-5)


def test_gradient_accumulation_loses_no_completion(store: Store, train: Train) -> None:
    run = train("demo-grpo", {"optimization.accumulation": "2"})
    assert [len(g.completions) for g in read.groups(store, run.id, 2)] == [8, 8]


def test_an_sft_run_has_reward_curves_from_the_probe(store: Store, train: Train) -> None:
    run = train("demo-sft", {"evaluation.probe_every": "1"})
    assert run.status == "finished", run.job
    assert curve(store, run, "loss")[0] == [1, 2, 3]
    for name in ("probe/reward", "probe/reward/format", "probe/reward/accuracy", "probe/reward/steps", "probe/kl"):
        assert curve(store, run, name)[0] == [0, 1, 2, 3], name
    assert curve(store, run, "probe/kl")[1][0] == pytest.approx(0, abs=1e-6)
    assert curve(store, run, "probe/kl")[1][-1] > 0
    kinds = Counter(e.kind for e in read.evaluations(store, run.id))
    assert kinds == {"probe": 4, "val": 3, "test": 1}


@pytest.mark.parametrize("preset", ["demo-grpo", "demo-sft"])
def test_the_same_seeds_give_the_same_run(store: Store, train: Train, preset: str) -> None:
    first, second = train(preset), train(preset)
    names = [n for n in read.metric_names(store, first.id) if not n.startswith("time/") and n != "tokens_per_second"]
    assert names
    for name in names:
        assert curve(store, first, name) == curve(store, second, name), name
    texts = [[c.text for c in read.completions(store, run.id, limit=1000)] for run in (first, second)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("preset", ["demo-grpo", "demo-sft"])
def test_a_stopped_and_resumed_run_equals_one_never_stopped(store: Store, train: Train, preset: str) -> None:
    settings = {"optimization.steps": "4"}
    whole = train(preset, settings)
    made, job = launch.create(store, config.override(config.preset(preset), SMALL | settings))
    stopper = threading.Thread(target=_stop_after_first_step, args=(store, made.id, job.id))
    stopper.start()
    assert execute(store, read.job(store, job.uid)) == 143
    stopper.join()
    stopped = read.run(store, made.id)
    assert stopped.status == "stopped"
    assert 1 <= stopped.step < 4
    again = launch.add_resume(store, made.id)
    assert execute(store, read.job(store, again.uid)) == 0
    resumed = read.run(store, made.id)
    assert resumed.status == "finished"
    names = ["loss", "probe/reward", "val/accuracy"] + (["reward", "kl"] if preset == "demo-grpo" else [])
    for name in names:
        steps, values = curve(store, whole, name)
        assert curve(store, resumed, name)[0] == steps, name
        assert curve(store, resumed, name)[1] == pytest.approx(values, abs=1e-5), name


def _stop_after_first_step(store: Store, run_id: int, job_id: int) -> None:
    while read.run(store, run_id).step < 1:
        time.sleep(0.01)
    write.ask_stop(store, job_id)
