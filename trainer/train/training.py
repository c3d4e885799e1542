"""Run a job from its database row to its end. A training is built, trained, probed, saved and tested.

Order of a training step: TRL updates and logs → Recorder commits → Watch probes, validates, saves and stops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from store.db.engine import Store
from store.db.rows import RunDetail
from store.events import add_event
from store.jobs import list_jobs
from store.metrics import read_clock
from store.runs import get_run
from store.steps import record_metrics, truncate_after
from store.trace import opening
from trainer.datasets.example import Example
from trainer.evaluate import job as evaluation_job
from trainer.evaluate import provenance, recording, tokens_job
from trainer.evaluate.harness import Harness, harness_for
from trainer.fit import memory
from trainer.jobs import code, collective, ranks
from trainer.jobs.activity import say
from trainer.launch import folders
from trainer.models import adapters
from trainer.models.checkpoints import Checkpoint, Checkpoints
from trainer.patches import trainers
from trainer.record.vr1z import GenerationCapture
from trainer.recorder import Recorder
from trainer.spec.config import RunConfig
from trainer.spec.errors import Stopped, TrainerError
from trainer.train import setup
from trainer.train.callbacks import Watch, curves
from trainer.train.setup import TrainingJob


def run_job(store: Store, job_id: int) -> None:
    """Run a claimed job. Raises Stopped after a graceful stop, TrainerError for known kinds of failures."""
    job = next(job for job in list_jobs(store, open_only=True) if job.id == job_id)
    run = get_run(store, job.run_id)
    config = provenance.config_of(run)
    if not ranks.is_rank() and (job.kind == "train" or run.method == "none"):
        code.keep(store, run.id)
    if job.kind == "train":
        config, resume = _accumulating(config, job.arguments.get("accumulation")), bool(job.arguments.get("resume"))
        output = Path(str(run.output_dir)) if ranks.is_rank() else _output(store, run, resume)
        if config.optimization.processes > 1 and not ranks.is_rank():
            adapters.starting_point(store, job.run_id, job_id, config, output)  # so that all ranks find it
            _start_ranks(store, job.uid, config.optimization.processes)
        else:
            train(store, job.run_id, job_id, config, output, resume=resume)
    elif job.kind == "evaluate":
        evaluation_job.run(store, job.run_id, job_id, config, job.arguments)
    elif job.kind == "tokens":
        tokens_job.run(store, job.run_id, job_id, config, job.arguments)
    else:
        raise TrainerError("config", f"Unknown kind of job {job.kind!r}.")


def _output(store: Store, run: RunDetail, resume: bool) -> Path:
    """Return the run's own folder with its checkpoints. Raises TrainerError before any of its records are deleted."""
    if resume and (reason := folders.why_not_resumed(store, run)) is not None:
        raise TrainerError("disk", reason)
    return folders.own_folder(store, run.id)


def _start_ranks(store: Store, job_uid: str, count: int) -> None:
    """Run a job's ranks. Raises TrainerError for too few GPUs, and Stopped or TrainerError as the ranks ended."""
    gpus = torch.cuda.device_count()
    if 0 < gpus < count:
        raise TrainerError("config", f"optimization.processes is {count}, but the job sees only {gpus} GPUs. Lower it.")
    ranks.run(store, job_uid, count)


def _accumulating(config: RunConfig, accumulation: int | None) -> RunConfig:
    """Return the config with the accumulation of a retry after running out of memory, if any."""
    if accumulation is None:
        return config
    optimization = config.optimization.model_copy(update={"accumulation": accumulation})
    return config.model_copy(update={"optimization": optimization})


def train(store: Store, run_id: int, job_id: int, config: RunConfig, output: Path, *, resume: bool) -> None:
    """Train with SFT or GRPO from the base or an adapter, or from the last checkpoint with `resume`.

    With several processes, only the first writes, probes, validates and decides; the others follow.
    """
    job = TrainingJob(store, run_id, job_id, config, output, resume)
    setup.join_processes(job)
    origin = setup.starting_point(job)
    data = setup.read_data(job)
    setup.try_rewards(job, data)
    policy = setup.load_policy(job, origin)
    data = setup.sample_references(job, data, policy)
    trainer = setup.build_trainer(job, data, policy)
    checkpoints = Checkpoints(store, run_id, output)
    start = checkpoints.resume_point() if resume else None
    if not ranks.is_first():
        follow(trainer, config, start)
        return
    harness = harness_for(
        config, trainer.model, policy.base.processor, policy.rewards, policy.encoder, start=policy.origin
    )
    setup.describe(job, data, policy, harness)
    recorder = setup.attach_recorder(job, data, harness, trainer)
    watch = Watch(store, run_id, job_id, config, harness, data.examples["val"], recorder, checkpoints)
    setup.rehearse(job, data, policy, trainer)
    setup.listen(trainer, recorder, watch)
    if resume:
        forget_after(job, recorder, start)
    advance(trainer, watch, start)
    finish(job, trainer, harness, data.examples["test"], checkpoints)


def forget_after(job: TrainingJob, recorder: Recorder, start: Checkpoint | None) -> None:
    """Store what is in the spool, then remove all steps after the checkpoint, which are repeated."""
    recorder.settle()
    if start is None:
        message = "Starting over, because it was stopped before its first checkpoint."
        add_event(job.store, job.run_id, "began_anew", message, job_id=job.job_id)
    truncate_after(job.store, job.run_id, start.step if start else -1)


def follow(trainer: Any, config: RunConfig, start: Checkpoint | None) -> None:
    """Run one of the other processes: compute its share of each batch until the first process stops it."""
    if config.method == "grpo":
        GenerationCapture(trainer, None, opening=opening)
    setup.listen(trainer, collective.Follower())
    if start is None or start.step < config.optimization.steps:
        trainer.train(resume_from_checkpoint=str(start.path) if start else None)


def advance(trainer: Any, watch: Watch, start: Checkpoint | None) -> None:
    """Train from the beginning or a checkpoint to the last update.

    Raises Stopped, or TrainerError if training ends early for another reason.
    """
    last = watch.config.optimization.steps
    if start is not None:
        watch.remember(start.step)
        _count_on(trainer, watch)
    if start is not None and start.step >= last:
        # TRL would do one more update.
        adapters.load_adapter(trainer.model, start.path)
        trainer.state.global_step = start.step
        watch.catch_up(start.step)
    else:
        say(watch.store, watch.job_id, "training" if start else "making the first update")
        trainer.train(resume_from_checkpoint=str(start.path) if start else None)
    done = trainer.state.global_step
    if watch.was_interrupted or (watch.recorder.stop_requested and done < last):
        raise Stopped
    if done < last:
        raise TrainerError("bug", f"Training ended unexpectedly at update {done} of {last}. See the log.")


def _count_on(trainer: Any, watch: Watch) -> None:
    """Continue counting tokens from the run's count, because TRL's checkpoints do not have that of SFT."""
    counted = read_clock(watch.store, watch.run_id).tokens
    if len(counted) and math.isfinite(counted[-1]):
        watch.recorder.last_tokens = float(counted[-1])
        trainers.resume_token_count(trainer, int(counted[-1]))


def finish(job: TrainingJob, trainer: Any, harness: Harness, test: Sequence[Example], checkpoints: Checkpoints) -> None:
    """Save the final adapter, and evaluate once on the test split with the checkpoint that validation selected."""
    checkpoints.final(trainer, trainer.state.global_step)
    provenance.add_facts(job.store, job.run_id, measured_memory=memory.measured_peak())
    if not test:
        return
    job.say("testing")
    best = checkpoints.best()
    step = trainer.state.global_step
    if best is not None and best.step != step:
        adapters.load_adapter(harness.model, best.path)
        step = best.step
    figures = recording.evaluate(
        job.store,
        job.run_id,
        harness,
        test,
        kind="test",
        step=step,
        benchmark=harness.config.data.dataset,
        pause=job.stop_if_asked,
        progress=lambda done, total: say(job.store, job.job_id, "testing", done, total),
    )
    record_metrics(job.store, job.run_id, step, curves("test", figures))
