"""One training or evaluation job from its row in the database to its end: builds, trains, probes, saves, tests.

The order of a training step: TRL updates and logs → Recorder commits → Watch probes, validates, saves, stops.
Knows the store and TRL; knows nothing of processes, signals or queues.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from store import read, write
from store.engine import Store
from trainer import datasets, evaluate, generation, grpo, models, sft
from trainer.capture import GenerationCapture
from trainer.checkpoints import Checkpoints
from trainer.config import RunConfig, from_dict
from trainer.datasets.example import Example
from trainer.errors import Stopped, TrainerError
from trainer.evaluate import Harness
from trainer.generation import Decoding
from trainer.models import Base
from trainer.recorder import Recorder
from trainer.rewards import Reward, build
from trainer.similarity import Encoder

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "sentence-transformers")


def run_job(store: Store, job_id: int) -> None:
    """Executes a job that was claimed. Raises Stopped after a graceful stop, TrainerError for known faults."""
    job = next(job for job in read.jobs(store, open_only=True) if job.id == job_id)
    run = read.run(store, job.run_id)
    config = from_dict(run.config)
    if job.kind == "train":
        train(store, job.run_id, job_id, config, Path(str(run.output_dir)), resume=bool(job.arguments.get("resume")))
    elif job.kind == "evaluate":
        evaluate_run(store, job.run_id, job_id, config, job.arguments)
    else:
        raise TrainerError("config", f"There is no way to execute a job of kind {job.kind!r}.")


def train(store: Store, run_id: int, job_id: int, config: RunConfig, output: Path, *, resume: bool) -> None:
    """SFT or GRPO from the base, or from the last checkpoint where `resume` is set."""
    set_seed(config.seed)
    say(store, job_id, "loading the model")
    base = models.load_base(config.model)
    encoder = Encoder(config.evaluation.encoder) if config.evaluation.encoder else None
    rewards = tuple(build(config, encoder))
    splits = {split: datasets.load_split(config.data, split) for split in ("train", "val", "test")}
    describe(store, run_id, config, base, rewards, splits["train"][0])

    trainer: Any
    if config.method == "grpo":
        trainer = grpo.build(config, base, splits["train"], rewards, output)
    else:
        trainer = sft.build(config, base, splits["train"], output)
    harness = harness_for(config, trainer.model, base.processor, rewards, encoder)
    recorder = _recorder(store, run_id, job_id, config, rewards, splits["train"])
    if config.method == "grpo":
        GenerationCapture(trainer, recorder.keep)
    checkpoints = Checkpoints(store, run_id, output)
    watch = Watch(store, run_id, job_id, config, harness, splits["val"], recorder, checkpoints)
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


def harness_for(
    config: RunConfig, model: Any, processor: Any, rewards: Sequence[Reward], encoder: Encoder | None, prefix: str = ""
) -> Harness:
    decoding = Decoding(max_tokens=config.max_tokens, seed=config.evaluation.seed, forced_prefix=prefix)
    return Harness(model, processor, config, tuple(rewards), encoder, decoding)


def _recorder(
    store: Store, run_id: int, job_id: int, config: RunConfig, rewards: Sequence[Reward], examples: Sequence[Example]
) -> Recorder:
    known: dict[int, int] = {}

    def identify(rows: Sequence[dict[str, Any]]) -> list[int | None]:
        new = sorted({int(row["example"]) for row in rows} - known.keys())
        if new:
            known.update(zip(new, evaluate.store_examples(store, [examples[i] for i in new]), strict=True))
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
    if not test:
        return
    say(store, job_id, "testing")
    best = checkpoints.best()
    step = trainer.state.global_step
    if best is not None and best.step != step:
        load_adapter(harness.model, best.path)
        step = best.step
    figures = evaluate.evaluate(store, run_id, harness, test, kind="test", step=step)
    write.record_metrics(store, run_id, step, curves("test", figures))


def load_adapter(model: Any, folder: Path) -> None:
    """Puts a saved adapter's weights into a PEFT model. Raises TrainerError when the file is gone."""
    path = folder / "adapter_model.safetensors"
    if not path.exists():
        raise TrainerError("disk", f"The checkpoint {folder} holds no adapter. Choose another checkpoint.")
    set_peft_model_state_dict(model, load_file(path))


def evaluate_run(store: Store, run_id: int, job_id: int, config: RunConfig, arguments: dict[str, Any]) -> None:
    """Adds one evaluation; `arguments` may hold checkpoint, benchmark, split, limit and forced_prefix.

    `checkpoint` is best, last, final or a step number; step 0 and method `none` are the base as it is.
    """
    set_seed(config.seed)
    say(store, job_id, "loading the model")
    base = models.load_base(config.model)
    model, step = base.model, 0
    wanted = str(arguments.get("checkpoint") or "best")
    if config.method != "none" and wanted != "0":
        found = Checkpoints(store, run_id, Path()).named(wanted)
        model, step = trainable(base, config), found.step
        load_adapter(model, found.path)
    encoder = Encoder(config.evaluation.encoder) if config.evaluation.encoder else None
    rewards = tuple(build(config, encoder))
    split = str(arguments.get("split") or "test")
    limit = int(arguments.get("limit") or config.data.test_examples)
    examples = datasets.load(str(arguments.get("benchmark") or config.data.dataset), split, limit, config.data.seed)
    harness = harness_for(config, model, base.processor, rewards, encoder, str(arguments.get("forced_prefix") or ""))
    if config.method == "none":
        describe(store, run_id, config, base, rewards, examples[0])
    say(store, job_id, f"evaluating {examples[0].dataset}")
    evaluate.evaluate(store, run_id, harness, examples, kind=split, step=step)


def trainable(base: Base, config: RunConfig) -> Any:
    """The base with a fresh adapter of the run's shape."""
    from peft import get_peft_model

    return get_peft_model(base.model, models.adapter(config.lora))


def say(store: Store, job_id: int, activity: str) -> None:
    """What the process is doing, for whoever watches."""
    write.beat(store, job_id, activity)


def describe(
    store: Store, run_id: int, config: RunConfig, base: Base, rewards: Sequence[Reward], example: Example
) -> None:
    """Writes what makes the run reproducible: versions, device, commit, resolved prompt, reward sources."""
    rendered = generation.render(base.processor, example, config.style, config.instruction)
    probe = harness_for(config, base.model, base.processor, rewards, None).conditions(example)
    write.describe_run(
        store,
        run_id,
        prompt=rendered,
        prompt_hash=probe["prompt_hash"],
        environment={
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "threads": torch.get_num_threads(),
            "model_revision": base.revision,
            "git_commit": git_commit(),
            **{name: version(name) for name in PACKAGES},
        },
        sources={r.name: {"source": r.source, "sha256": r.sha256} for r in rewards if r.source is not None},
    )


def git_commit() -> str | None:
    """The commit of the trainer's own source, where it is a git checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except OSError:
        return None
    return found.stdout.strip() or None
