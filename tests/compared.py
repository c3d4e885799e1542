"""Fills a database with the runs and evaluations of a comparison. The numbers are made up."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from store.db.engine import Store, open_store
from store.db.rows import PredictionRow
from store.db.states import JobState
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.events import set_checkpoint
from store.experiments import add_to_experiment, create_experiment, list_experiments
from store.jobs import add_job, end_job, start_job
from store.runs import describe_run
from store.steps import record_step
from tests import seeded
from trainer.datasets import shapes
from trainer.datasets.example import Example
from trainer.datasets.storing import store_examples
from trainer.evaluate import metrics
from trainer.spec import experiments
from trainer.spec.config import RunConfig
from trainer.spec.experiments import Matrix
from trainer.spec.prompt import INSTRUCTIONS

TABLES = Matrix(arms=("zero-shot CoT", "SFT CoT", "GRPO CoT"), ranks=(32, 64))
"""The experiment that tests compare, on the smaller drawn world."""

SKILL = {"none": 0.0, "sft": 0.55, "grpo": 0.95}
CLOSENESS = {"none": 0.2, "sft": 0.9, "grpo": 0.45}
BENCHMARKS = ("simple", "complex", "hard")


def compare_database(path: Path, *, seeds: Sequence[int] = (0,), n: int = 60) -> None:
    """The demonstration's matrix, trained and evaluated."""
    store = open_store(str(path))
    fill(store, replace(TABLES, seeds=tuple(seeds)), n=n)
    store.close()


def conditions(config: RunConfig, **decoding: Any) -> dict[str, Any]:
    return {
        "style": config.style,
        "prompt": f"User:<image>{{question}} {INSTRUCTIONS[config.style]}\nAssistant:",
        "pixels": {"size": 64},
        "decoding": {"max_tokens": 112, "temperature": None, "seed": 0, "forced_prefix": "", **decoding},
    }


def fill(
    store: Store,
    matrix: Matrix,
    *,
    n: int = 60,
    decoding: dict[str, dict[str, Any]] | None = None,
    other: dict[str, dict[str, Any]] | None = None,
) -> str:
    """Runs and tests of a matrix as an experiment, whose uid it returns.

    `decoding` changes that of an arm, `other` its further conditions.
    """
    made = create_experiment(store, name="demo-tables", matrix={"arms": list(matrix.arms)})
    held_out = {name: shapes.examples(name, "test", n, 0) for name in BENCHMARKS}
    for arm, config in experiments.plan_runs(matrix):
        run = seeded.new_run(store, config)
        if config.method == "none":
            describe_run(store, run.id, lora_rank=None, max_steps=None)
        add_to_experiment(store, made.id, run.id, arm)
        last = config.optimization.steps if config.method != "none" else 0
        train(store, run.id, config, last)
        changed = conditions(config, **(decoding or {}).get(arm, {})) | (other or {}).get(arm, {})
        for step in sorted({0, last // 2, last}):
            measure(
                store, run.id, config, changed, held_out["simple"], kind="val", step=step, progress=step / (last or 1)
            )
        for each in held_out.values():
            measure(store, run.id, config, changed, each, kind="test", step=last, progress=1.0)
    return made.uid


def train(store: Store, run_id: int, config: RunConfig, last: int) -> None:
    job = add_job(store, run_id, "evaluate" if config.method == "none" else "train", {})
    start_job(store, job.id, host="here", boot_id="boot", pid=1, pid_started=1.0, log_path=None)
    if last:
        spent = {"time/step": last / 2, "completion_length": 20.0 * (config.method == "grpo") or None}
        record_step(store, run_id, last // 2, {"loss": 1.0, **spent}, at=seeded.NOW, tokens=450.0 * last)
        record_step(store, run_id, last, {"loss": 0.1, **spent}, at=seeded.NOW + 2 * last, tokens=900.0 * last)
        set_checkpoint(store, run_id, kind="best", step=last, path="best", value=0.5)
    end_job(store, job.id, JobState.FINISHED, exit_code=0)


def measure(
    store: Store,
    run_id: int,
    config: RunConfig,
    changed: dict[str, Any],
    examples: Sequence[Example],
    *,
    kind: str,
    step: int,
    progress: float,
    skill: float | None = None,
) -> int:
    """One finished evaluation; returns its id."""
    rng = random.Random(f"{run_id}/{examples[0].dataset}/{kind}/{step}")
    ids = store_examples(store, examples)
    evaluation = begin_evaluation(
        store,
        run_id,
        benchmark=examples[0].dataset,
        split="test",
        kind=kind,
        step=step,
        conditions=changed,
        encoder="all-MiniLM-L6-v2",
        total=len(examples),
    )
    level = (SKILL[config.method] if skill is None else skill) * progress
    rows = [
        PredictionRow(
            **seeded.trace_fields(config, example, seeded.answer(rng, example, level)),
            example_id=example_id,
            similarity=min(1.0, rng.gauss(CLOSENESS[config.method], 0.08)),
            seconds=0.02,
        )
        for example_id, example in zip(ids, examples, strict=True)
    ]
    record_predictions(store, evaluation, rows)
    difficulties = [example.difficulty for example in examples]
    finish_evaluation(
        store, evaluation, metrics.summarize(rows, [example.answer for example in examples], difficulties)
    )
    return evaluation


def probe(store: Store, run_id: int, examples: Sequence[Example], texts: Sequence[str]) -> int:
    """A finished probe of a run in which it said these texts to these examples; returns its id."""
    ids = store_examples(store, examples)
    config = RunConfig()
    evaluation = begin_evaluation(
        store,
        run_id,
        benchmark=examples[0].dataset,
        split=examples[0].split,
        kind="probe",
        step=3,
        conditions=conditions(config),
        encoder=None,
        total=len(ids),
    )
    fields = [seeded.trace_fields(config, one, text) for one, text in zip(examples, texts, strict=True)]
    rows = [PredictionRow(**each, example_id=id) for each, id in zip(fields, ids, strict=True)]
    record_predictions(store, evaluation, rows)
    finish_evaluation(store, evaluation, {})
    return evaluation


def newest(store: Store) -> str:
    return list_experiments(store)[0].uid
