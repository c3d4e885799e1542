"""One training or evaluation job from its row in the database to its end: builds, trains, probes, saves, tests.

The order of a training step: TRL updates and logs → Recorder commits → Watch probes, validates, saves, stops.
Knows the store and TRL; knows nothing of processes, signals or queues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from store import read, write
from store.engine import Store
from trainer import (
    adapters,
    calibration,
    datasets,
    evaluate,
    evaluation_job,
    grpo,
    memory,
    models,
    own_samples,
    provenance,
    sft,
)
from trainer.activity import obey, say
from trainer.capture import GenerationCapture
from trainer.checkpoints import Checkpoints
from trainer.config import RunConfig
from trainer.datasets.example import Example
from trainer.datasets.storing import store_examples
from trainer.errors import Stopped, TrainerError
from trainer.harness import Harness, harness_for
from trainer.recorder import Recorder
from trainer.rewards import Reward, build
from trainer.similarity import Encoder


def run_job(store: Store, job_id: int) -> None:
    """Executes a job that was claimed. Raises Stopped after a graceful stop, TrainerError for known faults."""
    job = next(job for job in read.jobs(store, open_only=True) if job.id == job_id)
    run = read.run(store, job.run_id)
    config = provenance.config_of(run)
    if job.kind == "train":
        config = _accumulating(config, job.arguments.get("accumulation"))
        train(store, job.run_id, job_id, config, Path(str(run.output_dir)), resume=bool(job.arguments.get("resume")))
    elif job.kind == "evaluate":
        evaluation_job.run(store, job.run_id, job_id, config, job.arguments)
    else:
        raise TrainerError("config", f"There is no way to execute a job of kind {job.kind!r}.")


def _accumulating(config: RunConfig, accumulation: int | None) -> RunConfig:
    """The config with the accumulation of a retry after running out of memory."""
    if accumulation is None:
        return config
    optimization = config.optimization.model_copy(update={"accumulation": accumulation})
    return config.model_copy(update={"optimization": optimization})


def train(store: Store, run_id: int, job_id: int, config: RunConfig, output: Path, *, resume: bool) -> None:
    """SFT or GRPO from the base or another adapter, or from the last checkpoint where `resume` is set."""
    set_seed(config.seed)
    say(store, job_id, "loading the model")
    origin = adapters.starting_point(store, run_id, job_id, config, output)
    base = models.load_base(config.model)
    encoder = Encoder(config.evaluation.encoder) if config.evaluation.encoder else None
    rewards = tuple(build(config, encoder))
    say(store, job_id, "reading the data")
    splits, data_facts = datasets.load_run(config.data, imitates=config.imitates)
    if config.imitate == "own samples":
        say(store, job_id, "sampling what to imitate")
        itself = harness_for(config, base.model, base.processor, rewards, None)
        splits["train"] = own_samples.references(itself, splits["train"], lambda: obey(store, job_id))
        data_facts |= {"own_samples": len(splits["train"])}

    trainer: Any
    if config.method == "grpo":
        trainer = grpo.build(config, base, splits["train"], rewards, output, origin)
    else:
        trainer = sft.build(config, base, splits["train"], output, origin)
    harness = harness_for(config, trainer.model, base.processor, rewards, encoder)
    expected = memory.estimate(config, memory.largest(base.processor, splits["train"], config))
    facts = {"adapter": origin and str(origin), "data": data_facts, "estimated_memory": expected.peak}
    provenance.describe(store, run_id, base, harness, rewards, splits["train"][0], **facts)
    recorder = _recorder(store, run_id, job_id, config, rewards, splits["train"])
    if config.method == "grpo":
        GenerationCapture(trainer, recorder.keep)
    checkpoints = Checkpoints(store, run_id, output)
    watch = Watch(store, run_id, job_id, config, harness, splits["val"], recorder, checkpoints)
    if torch.cuda.is_available():
        say(store, job_id, "rehearsing the heaviest pass")
        calibration.rehearse(trainer, base.processor, splits["train"], config)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(recorder)
    trainer.add_callback(watch)

    start = checkpoints.resume_point() if resume else None
    if resume:
        write.truncate_after(store, run_id, start.step if start else -1)
    if start is not None:
        watch.remember(start.step)
    else:
        watch.look(0)
    say(store, job_id, "training")
    trainer.train(resume_from_checkpoint=str(start.path) if start else None)
    if recorder.stop_requested and trainer.state.global_step < config.optimization.steps:
        raise Stopped
    finish(store, run_id, job_id, trainer, harness, splits["test"], checkpoints)


def _recorder(
    store: Store, run_id: int, job_id: int, config: RunConfig, rewards: Sequence[Reward], examples: Sequence[Example]
) -> Recorder:
    known: dict[int, int] = {}

    def identify(rows: Sequence[dict[str, Any]]) -> list[int | None]:
        new = sorted({int(row["example"]) for row in rows} - known.keys())
        if new:
            known.update(zip(new, store_examples(store, [examples[i] for i in new]), strict=True))
        return [known[int(row["example"])] for row in rows]

    weights = {reward.name: reward.weight for reward in rewards}
    return Recorder(store, run_id, job_id, style=config.style, weights=weights, identify=identify)


@dataclass
class Watch(TrainerCallback):
    """After each recorded step: probe and validate when it is time, keep checkpoints, obey a stop."""

    store: Store
    run_id: int
    job_id: int
    config: RunConfig
    harness: Harness
    val: Sequence[Example]
    recorder: Recorder
    checkpoints: Checkpoints
    best: float = -1.0
    accuracy: float | None = None

    def remember(self, step: int) -> None:
        """After a resume: the best validation accuracy up to `step`."""
        values = [
            e.metrics.get("exact_match")
            for e in read.evaluations(self.store, self.run_id)
            if e.kind == "val" and 0 < e.step <= step
        ]
        self.best = max([value for value in values if value is not None], default=-1.0)

    def look(self, step: int) -> bool:
        """Probe and validation that are due at `step`; True when the step was validated."""
        settings, last = self.config.evaluation, self.config.optimization.steps
        if step % settings.probe_every == 0 or step == last:
            say(self.store, self.job_id, "probing")
            examples = self.val[: settings.probe_examples]
            write.record_metrics(
                self.store,
                self.run_id,
                step,
                evaluate.probe(self.store, self.run_id, self.harness, examples, step=step),
            )
        due = step % settings.val_every == 0 or step == last
        if due:
            say(self.store, self.job_id, "validating")
            figures = evaluate.evaluate(self.store, self.run_id, self.harness, self.val, kind="val", step=step)
            write.record_metrics(self.store, self.run_id, step, curves("val", figures))
            self.accuracy = figures["exact_match"]
        say(self.store, self.job_id, "training")
        return due

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "train_runtime" in logs:
            return
        validated = self.look(state.global_step)
        if self.recorder.stop_requested:
            control.should_training_stop = True
        control.should_save = validated or control.should_training_stop or control.should_save

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        step = state.global_step
        improved = self.accuracy is not None and self.accuracy > self.best
        if improved:
            self.best = float(self.accuracy or 0.0)
        self.checkpoints.saved(step, self.accuracy, best=improved)
        self.accuracy = None


def curves(prefix: str, figures: dict[str, Any]) -> dict[str, float | None]:
    """The figures of an evaluation that are drawn over steps."""
    chosen = {
        "accuracy": "exact_match",
        "accuracy_low": "exact_match_low",
        "accuracy_high": "exact_match_high",
        "wellformed": "wellformed",
        "steps": "mean_steps",
        "length": "mean_tokens",
        "cos_mean": "cos_mean",
        "cos@0.8": "cos_at_0.8",
    }
    return {f"{prefix}/{name}": figures[key] for name, key in chosen.items() if key in figures}


def finish(
    store: Store,
    run_id: int,
    job_id: int,
    trainer: Any,
    harness: Harness,
    test: Sequence[Example],
    checkpoints: Checkpoints,
) -> None:
    """Saves the final adapter and answers the test split once, with the checkpoint that validation chose."""
    checkpoints.final(trainer, trainer.state.global_step)
    provenance.add_facts(store, run_id, measured_memory=memory.measured_peak())
    if not test:
        return
    say(store, job_id, "testing")
    best = checkpoints.best()
    step = trainer.state.global_step
    if best is not None and best.step != step:
        adapters.load_adapter(harness.model, best.path)
        step = best.step
    figures = evaluate.evaluate(
        store,
        run_id,
        harness,
        test,
        kind="test",
        step=step,
        benchmark=harness.config.data.dataset,
        pause=lambda: obey(store, job_id),
    )
    write.record_metrics(store, run_id, step, curves("test", figures))
