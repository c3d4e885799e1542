"""Prepare a training: data, rewards, model, rejection samples, trainer and recorder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import set_seed

from store.db.engine import Store
from store.db.rows import TokenRow
from store.events import add_event
from store.trace import opening
from trainer import datasets
from trainer.datasets import Loaded
from trainer.datasets.example import Example
from trainer.datasets.storing import store_examples
from trainer.evaluate import provenance, reward_trial, tokens
from trainer.evaluate.harness import Harness, harness_for
from trainer.evaluate.similarity import Encoder
from trainer.fit import memory, sharing
from trainer.jobs import collective, ranks
from trainer.jobs.activity import say, stop_if_asked
from trainer.models import adapters, loading
from trainer.models.loading import Base
from trainer.patches import trainers
from trainer.record.spool import NAME, Spool
from trainer.record.vr1z import Generation, GenerationCapture
from trainer.recorder import Recorder
from trainer.spec.config import RunConfig
from trainer.spec.rewards import Reward, build
from trainer.train import calibration, grpo, rejection_sampling, sft


@dataclass(frozen=True)
class TrainingJob:
    """One training: its run and job in the database, configuration, output folder, and whether it resumes."""

    store: Store
    run_id: int
    job_id: int
    config: RunConfig
    output: Path
    resume: bool

    def say(self, activity: str) -> None:
        say(self.store, self.job_id, activity)

    def stop_if_asked(self) -> None:
        """Raise Stopped if the job was asked to stop."""
        stop_if_asked(self.store, self.job_id)


class Policy(NamedTuple):
    """The model being trained and its rewards."""

    base: Base
    rewards: tuple[Reward, ...]
    encoder: Encoder | None
    origin: Path | None
    """Folder of the adapter from which the run starts; None if it starts from the base."""


def join_processes(job: TrainingJob) -> None:
    """Select this process's GPU, connect to the other processes, and seed. Raises TrainerError like `check_vllm`."""
    grpo.check_vllm(job.config)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    collective.join()
    set_seed(job.config.seed)


def starting_point(job: TrainingJob) -> Path | None:
    return adapters.starting_point(job.store, job.run_id, job.job_id, job.config, job.output)


def read_data(job: TrainingJob) -> Loaded:
    job.say("reading the data")
    loaded = datasets.load_run(job.config.data, imitates=job.config.imitates)
    grpo.check_enough(job.config, len(loaded.examples["train"]))
    return loaded


def try_rewards(job: TrainingJob, data: Loaded) -> None:
    """Call the user's own rewards once in the first process."""
    if ranks.is_first():
        job.say("trying the rewards")
        reward_trial.try_rewards(job.config, data.examples["train"][0], job.stop_if_asked)


def load_policy(job: TrainingJob, origin: Path | None) -> Policy:
    job.say("loading the model")
    base = loading.load_base(job.config.model)
    name = job.config.evaluation.encoder
    encoder = Encoder(name) if name else None
    return Policy(base, tuple(build(job.config, encoder)), encoder, origin)


def sample_references(job: TrainingJob, data: Loaded, policy: Policy) -> Loaded:
    """Return the data with the base's correct samples as references, if the run imitates these."""
    if job.config.imitate != "rejection samples":
        return data
    job.say("sampling what to imitate")
    harness = harness_for(job.config, policy.base.model, policy.base.processor, policy.rewards, None)
    sampled = rejection_sampling.references(harness, data.examples["train"], job.stop_if_asked)
    return Loaded(data.examples | {"train": sampled}, data.facts | {"rejection_samples": len(sampled)})


def build_trainer(job: TrainingJob, data: Loaded, policy: Policy) -> Any:
    """Return TRL's trainer for the run's method."""
    job.say("preparing the training")
    config, examples = job.config, data.examples["train"]
    trainer: Any
    if config.method == "grpo":
        trainer = grpo.build(config, policy.base, examples, policy.rewards, job.output, policy.origin)
    else:
        trainer = sft.build(config, policy.base, examples, job.output, policy.origin)
    if ranks.is_rank():
        set_seed(config.seed)  # TRL gives each process a different seed
    return trainer


def describe(job: TrainingJob, data: Loaded, policy: Policy, harness: Harness) -> None:
    """Store the run's data, environment and estimated memory."""
    examples = data.examples["train"]
    workload = memory.largest(policy.base.processor, examples, job.config)
    expected = memory.estimate(job.config, workload)
    if job.config.method == "grpo":
        shared = sharing.in_words(job.config, policy.base.model.config, workload)
        add_event(job.store, job.run_id, "sharing", shared, job_id=job.job_id)
    origin = policy.origin and str(policy.origin)
    facts = {"adapter": origin, "data": data.facts, "estimated_memory": expected.peak}
    provenance.describe(job.store, job.run_id, policy.base, harness, policy.rewards, examples[0], **facts)


def attach_recorder(job: TrainingJob, data: Loaded, harness: Harness, trainer: Any) -> Recorder:
    """Return a recorder that receives GRPO's generations, and the trainer's log entries as a callback."""
    recorder = _recorder(job, data.examples["train"], harness)
    if job.config.method == "grpo":
        GenerationCapture(trainer, recorder.keep, opening=opening)
    return recorder


def _recorder(job: TrainingJob, examples: Sequence[Example], harness: Harness) -> Recorder:
    ids_by_example: dict[int, int] = {}
    at_once = replace(job.store, patience=0.0)

    def identify(rows: Sequence[dict[str, Any]]) -> list[int | None]:
        new = sorted({int(row["example"]) for row in rows} - ids_by_example.keys())
        if new:
            ids_by_example.update(zip(new, store_examples(at_once, [examples[i] for i in new]), strict=True))
        return [ids_by_example[int(row["example"])] for row in rows]

    def measure(generation: Generation) -> list[TokenRow]:
        count = harness.config.grpo.token_samples
        sampled_examples = [examples[int(row["example"])] for row in generation.inputs[:count]]
        return tokens.measure(harness, sampled_examples, generation.texts[:count], generation.ids[:count])

    return Recorder(
        job.store,
        job.run_id,
        job.job_id,
        Spool(job.output / NAME),
        style=harness.config.style,
        weights={reward.name: reward.weight for reward in harness.rewards},
        identify=identify,
        measure=measure,
    )


def rehearse(job: TrainingJob, data: Loaded, policy: Policy, trainer: Any) -> None:
    """On a GPU, run the heaviest pass of the training, so that it fails here if it does not fit into memory."""
    if torch.cuda.is_available():
        job.say("rehearsing the heaviest pass")
        calibration.rehearse(trainer, policy.base.processor, data.examples["train"], job.config)


def listen(trainer: Any, *callbacks: Any) -> None:
    """Add callbacks for every update, in this order, and remove the one that prints."""
    trainers.print_no_logs(trainer)
    for callback in callbacks:
        trainer.add_callback(callback)
