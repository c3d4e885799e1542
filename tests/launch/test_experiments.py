"""A matrix becomes runs with their evaluations, in one action."""

from __future__ import annotations

from dataclasses import replace

import pytest

from store.db.engine import Store
from store.experiments import get_experiment, list_experiments
from store.jobs import list_jobs
from store.runs import get_run, list_runs
from trainer import launch
from trainer.launch.experiments import BASE_SAMPLES, launch_experiment
from trainer.spec import experiments
from trainer.spec.config import ConfigError
from trainer.spec.experiments import ARMS, DEMO_TABLES, Matrix


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "ensure_worker", lambda store: None)


def test_the_matrix_is_multiplied_and_what_trains_nothing_is_there_once() -> None:
    matrix = Matrix(arms=("zero-shot CoT", "SFT CoT", "GRPO CoT"), ranks=(8, 16), seeds=(0, 1, 2), rates=(None, 1e-3))
    runs = experiments.planned(matrix)
    assert len(runs) == 1 + 2 * 2 * 3 * 2
    assert len({run.config.title for run in runs}) == len(runs)
    assert {(run.config.lora.rank, run.config.seed) for run in runs if run.arm == "SFT CoT"} == {
        (rank, seed) for rank in (8, 16) for seed in (0, 1, 2)
    }


def test_arms_differ_in_what_they_say_and_share_the_conditions() -> None:
    runs = {run.arm: run.config for run in experiments.planned(Matrix(arms=tuple(ARMS)))}
    assert {arm: (config.method, config.style) for arm, config in runs.items()} == {
        "zero-shot direct": ("none", "direct"),
        "zero-shot CoT": ("none", "cot"),
        "SFT direct": ("sft", "direct"),
        "SFT CoT": ("sft", "cot"),
        "GRPO direct": ("grpo", "direct"),
        "GRPO CoT": ("grpo", "cot"),
        "GRPO format only": ("grpo", "cot"),
        "GRPO random reward": ("grpo", "cot"),
        "SFT on rejection samples": ("sft", "cot"),
    }
    assert len({(c.max_tokens, c.data.seed, c.data.test_examples, c.evaluation.seed) for c in runs.values()}) == 1
    assert [(r.name, r.weight) for r in runs["GRPO format only"].rewards if r.weight] == [("format", 1.0)]
    assert [(r.name, r.weight) for r in runs["GRPO random reward"].rewards if r.weight] == [("random", 1.0)]
    sampled = runs["SFT on rejection samples"]
    assert sampled.imitate == "rejection samples" and not sampled.imitates


def test_starting_queues_every_run_with_its_evaluations(store: Store) -> None:
    uid = launch_experiment(store, "tables", replace(DEMO_TABLES, settings=(("optimization.steps", 2),)))
    found = get_experiment(store, uid)
    assert list(found.arms.values()) == ["zero-shot CoT", "SFT CoT", "SFT CoT", "GRPO CoT", "GRPO CoT"]
    asked = [(job.kind, job.arguments.get("benchmark")) for job in list_jobs(store)]
    others = [("evaluate", "shapes-complex"), ("evaluate", "shapes-hard")]
    assert asked == [("evaluate", "shapes-simple"), *others] + [("train", None), *others] * 4
    samples = [job.arguments.get("samples") for job in list_jobs(store)]
    assert samples == [BASE_SAMPLES] * 3 + [None] * 12
    assert {get_run(store, run).max_steps for run, arm in found.arms.items() if arm != "zero-shot CoT"} == {2}


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        (Matrix(arms=("SFT",)), "There is no arm 'SFT'"),
        (Matrix(arms=("SFT CoT",), models=("gpt",)), "no presets for the model 'gpt'"),
        (Matrix(arms=("SFT CoT",), benchmarks=("mnist",)), "unknown dataset 'mnist'"),
        (Matrix(arms=("SFT CoT",), ranks=(0,)), "lora.rank must be at least 1"),
    ],
)
def test_what_cannot_run_queues_nothing(store: Store, matrix: Matrix, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        launch_experiment(store, "tables", matrix)
    assert (list_runs(store), list_experiments(store)) == ([], [])
