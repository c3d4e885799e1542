"""Fills a database with an experiment of many arms and seeds, for tests of curves. The numbers are made up."""

from __future__ import annotations

import random

from store.db.engine import Store
from store.db.rows import RunRef
from store.db.states import JobState
from store.experiments import add_to_experiment, create_experiment
from store.jobs import add_job, end_job
from store.steps import record_metrics, record_step
from tests import seeded

ARMS = ("GRPO CoT", "GRPO direct", "GRPO format only", "GRPO random reward")
RANKS = (16, 64)
SEEDS = 5
STEPS, SHORT = 120, 80
"""Steps of a run; one run of the fastest arm ends earlier."""
FASTEST, ODD_SEED, BREAKS_AWAY = ("GRPO CoT", 64), 3, 60
"""The arm that learns fastest, and its seed that falls back from this step on."""
PACE = {"GRPO CoT": 1.0, "GRPO direct": 0.7, "GRPO format only": 0.4, "GRPO random reward": 0.0}


def fill(store: Store, *, seeds: int = SEEDS, steps: int = STEPS, name: str = "evidence") -> str:
    """Return the uid of an experiment of 8 arms; the second rank learns faster, and one seed is the odd one out."""
    made = create_experiment(store, name=name, matrix={"arms": list(ARMS), "ranks": list(RANKS)})
    train = seeded.examples(store, "train", 4)
    for arm in ARMS:
        for rank in RANKS:
            for seed in range(seeds):
                run = new_run(store, arm, rank, seed, steps)
                add_to_experiment(store, made.id, run.id, arm)
                learn(store, run, arm, rank, seed, steps, train)
    return made.uid


def new_run(store: Store, arm: str, rank: int, seed: int, steps: int) -> RunRef:
    own = (f"seed={seed}", f"lora.rank={rank}", f"optimization.steps={steps}")
    settings = seeded.config("shapes-grpo", *own)
    return seeded.new_run(
        store, settings.model_copy(update={"name": f"{arm.lower().replace(' ', '-')}-r{rank}-s{seed}"})
    )


def learn(store: Store, run: RunRef, arm: str, rank: int, seed: int, steps: int, train: seeded.Examples) -> None:
    """Every step's metrics, and the completions of one group at the step where the odd seed breaks away."""
    rng = random.Random(run.id)
    settings = seeded.config("shapes-grpo")
    is_best = (arm, rank) == FASTEST
    last = SHORT * steps // STEPS if is_best and seed == 4 else steps
    job = add_job(store, run.id, "train", {})
    for step in range(1, last + 1):
        level = seeded.skill(PACE[arm] * (0.7 if rank == 16 else 1.0) * step / steps * 1.2)
        if is_best and seed == ODD_SEED and step > BREAKS_AWAY * steps // STEPS:
            level *= 0.3
        measured = seeded.sampled(rng, settings, level, 1.4)
        said = seeded.completions(rng, settings, train, step, level) if step == BREAKS_AWAY * steps // STEPS + 1 else []
        record_step(store, run.id, step, measured, at=seeded.NOW + 1.4 * step, tokens=900.0 * step, completions=said)
        if step % 20 == 0:
            record_metrics(store, run.id, step, {"val/accuracy": min(1.0, seeded.noisy(rng, 0.1 + 0.7 * level, 0.03))})
    end_job(store, job.id, JobState.FINISHED, exit_code=0)
