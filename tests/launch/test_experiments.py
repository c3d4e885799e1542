"""A matrix becomes runs with their evaluations, in one action."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from store.db.engine import Store
from store.db.rows import JobRow
from store.db.states import JobState
from store.experiments import get_experiment, list_experiments
from store.jobs import ask_stop, claim_job, end_job, list_jobs
from store.runs import delete_run, get_run, list_runs
from trainer import launch
from trainer.launch.experiments import (
    BASE_SAMPLES,
    extend_experiment,
    launch_experiment,
    resume_experiment,
    stop_experiment,
)
from trainer.spec import benchmark, experiments
from trainer.spec.config import ConfigError, alternatives, preset
from trainer.spec.experiments import ARMS, DEMO_TABLES, Matrix


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "ensure_worker", lambda store: None)


def test_the_matrix_is_multiplied_and_what_trains_nothing_is_there_once() -> None:
    matrix = Matrix(arms=("zero-shot CoT", "SFT CoT", "GRPO CoT"), ranks=(8, 16), seeds=(0, 1, 2), rates=(None, 1e-3))
    runs = experiments.plan_runs(matrix)
    assert len(runs) == 1 + 2 * 2 * 3 * 2
    assert len({run.config.title for run in runs}) == len(runs)
    assert {(run.config.lora.rank, run.config.seed) for run in runs if run.arm == "SFT CoT"} == {
        (rank, seed) for rank in (8, 16) for seed in (0, 1, 2)
    }


def test_arms_differ_in_what_they_say_and_share_the_conditions() -> None:
    runs = {run.arm: run.config for run in experiments.plan_runs(Matrix(arms=tuple(ARMS)))}
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


def test_the_evidence_has_six_arms_and_answers_the_board() -> None:
    runs = experiments.plan_runs(experiments.NAMED["demo-evidence"])
    assert {run.arm for run in runs} == set(list(ARMS)[:6])
    assert {run.config.model.id for run in runs} == {"tiny-board"}
    assert {run.config.data.dataset for run in runs} == {"board-simple"}
    seeds = {(run.arm, run.config.lora.rank): 0 for run in runs if run.config.method != "none"}
    assert seeds.keys() == {(arm, rank) for arm in list(ARMS)[2:6] for rank in (32,)}
    assert len(runs) == 2 + 5 * len(seeds)


def test_the_arms_that_answer_at_once_are_the_presets_of_that_name() -> None:
    for method in ("GRPO", "SFT"):
        (run,) = experiments.plan_runs(Matrix(arms=(f"{method} direct",), models=("tiny-board",)))
        own = preset(f"demo-{method.lower()}-direct")
        assert run.config.model_copy(update={"name": own.name}) == own
        assert own.max_tokens == preset("demo-grpo").max_tokens, "another token limit is not comparable"


@pytest.mark.parametrize(
    ("models", "worlds"),
    [(("tiny",), {"shapes"}), (("tiny-board",), {"board"}), (("tiny", "tiny-board"), {"shapes", "board"})],
)
def test_a_model_answers_the_drawn_sets_of_its_world(models: tuple[str, ...], worlds: set[str]) -> None:
    assert {name.partition("-")[0] for name in benchmark.drawn_datasets(models)} == worlds
    assert benchmark.drawn_datasets(("smolvlm-256m",)) == Matrix(arms=()).benchmarks


def test_starting_queues_every_run_with_its_evaluations(store: Store) -> None:
    uid = launch_experiment(store, "tables", replace(DEMO_TABLES, settings=(("optimization.steps", 2),)))
    found = get_experiment(store, uid)
    assert list(found.arms.values()) == ["zero-shot CoT", "SFT CoT", "SFT CoT", "GRPO CoT", "GRPO CoT"]
    asked = [(job.kind, job.arguments.get("benchmark")) for job in list_jobs(store)]
    others = [("evaluate", "board-complex"), ("evaluate", "board-hard")]
    assert asked == [("evaluate", "board-simple"), *others] + [("train", None), *others] * 4
    samples = [job.arguments.get("samples") for job in list_jobs(store)]
    assert samples == [BASE_SAMPLES] * 3 + [None] * 12
    assert {get_run(store, run).max_steps for run, arm in found.arms.items() if arm != "zero-shot CoT"} == {2}


def test_thinking_is_probed_in_what_is_trained_to_think(store: Store) -> None:
    arms = ("zero-shot CoT", "SFT direct", "SFT CoT")
    matrix = Matrix(arms=arms, models=("tiny-board",), benchmarks=("board-simple",), thinking=True)
    uid = launch_experiment(store, "probed", matrix)
    assert get_experiment(store, uid).matrix["thinking"] is True
    probes = [job.run_id for job in list_jobs(store) if job.arguments.get("thinking")]
    assert [get_experiment(store, uid).arms[run] for run in probes] == ["SFT CoT"]


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        (Matrix(arms=("SFT",)), "Unknown arm 'SFT'"),
        (Matrix(arms=("SFT CoT",), models=("gpt",)), "No presets exist for the model 'gpt'"),
        (Matrix(arms=("SFT CoT",), benchmarks=("mnist",)), "unknown dataset 'mnist'"),
        (Matrix(arms=("SFT CoT",), ranks=(0,)), "lora.rank must be at least 1"),
        (Matrix(arms=("SFT CoT",), varied=(("lora.rank", (1, 2)),)), "varied by the experiment's ranks"),
        (Matrix(arms=("GRPO CoT",), varied=(("grpo.bet", (0, 1)),)), "Did you mean grpo.beta"),
        (Matrix(arms=("GRPO CoT",), varied=(("grpo.beta", ("much",)),)), "grpo.beta must be a number"),
        (Matrix(arms=("GRPO CoT", "SFT CoT"), seeds=tuple(range(51))), "102 runs; at most 100 are allowed"),
    ],
)
def test_what_cannot_run_queues_nothing(store: Store, matrix: Matrix, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        launch_experiment(store, "tables", matrix)
    assert (list_runs(store), list_experiments(store)) == ([], [])


SWEEP = Matrix(
    arms=("GRPO CoT", "zero-shot CoT"),
    ranks=(8,),
    seeds=(0, 1),
    varied=(("grpo.beta", (0, 0.02)), ("rewards.steps", (0.5,)), ("optimization.schedule", ("constant", "cosine"))),
    benchmarks=("shapes-simple",),
)


def test_further_settings_multiply_the_runs_that_train_and_are_in_their_names() -> None:
    runs = experiments.plan_runs(SWEEP)
    trained = [run.config for run in runs if run.arm == "GRPO CoT"]
    assert len(trained) == 2 * 2 * 2 and len(runs) == len(trained) + 1
    assert {(c.grpo.beta, c.optimization.schedule, c.seed) for c in trained} == {
        (beta, schedule, seed) for beta in (0, 0.02) for schedule in ("constant", "cosine") for seed in (0, 1)
    }
    assert {reward.weight for config in trained for reward in config.rewards if reward.name == "steps"} == {0.5}
    assert trained[0].title == "grpo-cot-tiny-r8-beta-0-schedule-constant-s0"


def test_values_are_read_as_yaml() -> None:
    assert alternatives("grpo.beta=0, 0.02") == ("grpo.beta", ("0", "0.02"))
    assert alternatives("optimization.schedule=constant,cosine") == ("optimization.schedule", ("constant", "cosine"))
    assert alternatives("visual_words=[red, blue], [top]") == ("visual_words", (["red", "blue"], ["top"]))
    for text in ("grpo.beta", "grpo.beta=", "grpo.beta=[1"):
        with pytest.raises(ConfigError):
            alternatives(text)


def test_a_matrix_is_stored_and_read_again(store: Store) -> None:
    uid = launch_experiment(store, "sweep", SWEEP)
    found = experiments.from_stored(get_experiment(store, uid).matrix)
    assert found == SWEEP and experiments.plan_runs(found) == experiments.plan_runs(SWEEP)
    many = {"arms": ["GRPO CoT"], "seeds": list(range(500))}
    for foreign in ({}, {"learning rate": [1]}, {"arms": "all"}, {"arms": ["SFT CoT"], "varied": [1, 2]}, many):
        with pytest.raises(ConfigError, match="was recorded by another tool"):
            experiments.from_stored(foreign)


def test_an_experiment_is_extended_by_what_is_new(store: Store) -> None:
    uid = launch_experiment(store, "sweep", SWEEP)
    more = replace(SWEEP, seeds=(0, 1, 2), varied=(("grpo.beta", (0.1,)),))
    assert extend_experiment(store, uid, more) == 3 * 3 * 2 - 2 * 2 * 2
    found = get_experiment(store, uid)
    titles = [get_run(store, run).name for run in found.arms]
    assert len(titles) == len(set(titles)) == 3 * 3 * 2 + 1
    assert dict(experiments.from_stored(found.matrix).varied)["grpo.beta"] == (0, 0.02, 0.1)
    with pytest.raises(ConfigError, match="has all of these runs"):
        extend_experiment(store, uid, more)
    with pytest.raises(ConfigError, match=r"does not vary max_tokens.*It varies grpo\.beta"):
        extend_experiment(store, uid, replace(SWEEP, varied=(("max_tokens", (10,)),)))
    with pytest.raises(ConfigError, match="at most 100"):
        extend_experiment(store, uid, replace(SWEEP, seeds=tuple(range(20))))
    assert len(get_experiment(store, uid).arms) == len(titles)


def test_what_an_experiment_lacks_is_queued_again_and_nothing_else(store: Store) -> None:
    one = replace(SWEEP, seeds=(0, 1), varied=(("grpo.beta", (0,)),))
    uid = launch_experiment(store, "sweep", one)
    same = replace(one, arms=(), ranks=(), rates=(), seeds=(), varied=())
    with pytest.raises(ConfigError, match="has all of these runs"):
        extend_experiment(store, uid, same)
    trained = [run for run, arm in get_experiment(store, uid).arms.items() if arm != "zero-shot CoT"]
    for job in list_jobs(store, run_id=trained[0]):
        ask_stop(store, job.id)
    name = get_run(store, trained[0]).name
    delete_run(store, trained[0])
    assert extend_experiment(store, uid, same) == 1
    assert get_run(store, max(get_experiment(store, uid).arms)).name == name
    before = len(get_experiment(store, uid).arms)
    added = extend_experiment(store, uid, replace(same, varied=(("grpo.beta", (0.1,)),)))
    assert added == len(trained), "a second value renames no run that is here"
    assert len(get_experiment(store, uid).arms) == before + added


def test_an_experiment_pauses_and_resumes_as_one(store: Store, tmp_path: Path) -> None:
    """What was taken out of the queue comes back, a training before its evaluations; what failed does not."""
    matrix = replace(SWEEP, arms=("GRPO CoT",), seeds=(0,), benchmarks=("shapes-simple", "shapes-hard"))
    uid = launch_experiment(store, "sweep", matrix)
    other = launch_experiment(store, "other", replace(matrix, varied=()))
    before = [job for job in list_jobs(store) if job.run_id in get_experiment(store, uid).arms]
    done, failed = (claim_job(store, "elsewhere", devices=(name,)) for name in ("0", "1"))
    at_work = claim_job(store, "elsewhere", devices=("2",))
    assert done and failed and at_work
    end_job(store, done.id, JobState.FINISHED)
    end_job(store, failed.id, JobState.FAILED)
    assert stop_experiment(store, uid) == len(before) - 2
    states = {job.id: job.state for job in list_jobs(store)}
    assert states.pop(at_work.id) == JobState.STOPPING, "it finishes its step"
    assert {states[job.id] for job in before if job.id in states} == {"finished", "failed", "stopped"}
    assert {job.state for job in list_jobs(store) if job.run_id in get_experiment(store, other).arms} == {"queued"}
    assert claim_job(store, "elsewhere", devices=("0",)) is not None, "the other experiment goes on"
    at_work_run = next(job.run_id for job in before if job.id == at_work.id)
    first = resume_experiment(store, uid)
    assert not [job for job in _queued(store, uid) if job.run_id == at_work_run], "it has not ended yet"
    end_job(store, at_work.id, JobState.STOPPED)
    second = resume_experiment(store, uid)
    queued = _queued(store, uid)
    assert len(queued) == first + second
    assert [job.kind for job in queued if job.run_id == at_work_run] == ["train", "evaluate"]
    assert all(job.arguments.get("resume") for job in queued if job.kind == "train")
    failed_run, done_run = (next(job.run_id for job in before if job.id == each.id) for each in (failed, done))
    assert [job.kind for job in queued if job.run_id in (failed_run, done_run)] == ["evaluate", "evaluate"]
    assert resume_experiment(store, uid) == 0


def _queued(store: Store, uid: str) -> list[JobRow]:
    return [
        job
        for job in list_jobs(store, open_only=True)
        if job.run_id in get_experiment(store, uid).arms and job.state == JobState.QUEUED
    ]
