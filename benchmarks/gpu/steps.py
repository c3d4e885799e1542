"""Time updates of a preset with the trainer and with stock TRL, and compare both on the same completions."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import GRPOTrainer

from benchmarks.grpo_step import Photo, class_of_trainer, spread, stock
from trainer.datasets import shapes
from trainer.datasets.example import Example
from trainer.fit import memory
from trainer.models import loading
from trainer.spec.config import RunConfig
from trainer.spec.rewards import Reward
from trainer.train import grpo, sft

GIB = 1024**3


@dataclass
class UpdateMeasurement:
    """Measurements of updates: seconds each, seconds of sampling, sampled tokens, peak memory in bytes."""

    seconds: list[float] = field(default_factory=list)
    sampling: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    reserved: int = 0
    allocated: int = 0
    generations: list[Any] = field(default_factory=list)
    """The sampled completions, for another trainer to repeat."""

    def in_numbers(self) -> dict[str, Any]:
        """Return results for the table; medians are without the first update, which warms up."""
        updates, sampled = self.seconds[1:] or self.seconds, self.sampling[1:] or self.sampling
        figures: dict[str, Any] = {
            "first_update_s": self.seconds[0],
            "update_s": statistics.median(updates),
            "peak_reserved_gib": self.reserved / GIB,
            "peak_allocated_gib": self.allocated / GIB,
            "loss": self.loss,
            "gradient_norm": self.gradient_norm,
        }
        if sampled:
            figures |= {
                "sampling_s": statistics.median(sampled),
                "tokens_per_second": statistics.median(
                    n / s for n, s in zip(self.tokens[-len(sampled) :], sampled, strict=True)
                ),
            }
        return figures


def examples(count: int) -> list[Example]:
    """Return drawn examples with images of a photo's size."""
    drawn = shapes.examples("simple", "train", count, 0)
    return [replace(example, pictures=tuple(map(Photo, example.pictures))) for example in drawn]


def expected(config: RunConfig) -> dict[str, Any]:
    """Return the preflight's memory estimate: peak and parts in GiB."""
    processor = loading.load_processor(config.model)
    estimate = memory.estimate(config, memory.largest(processor, examples(memory.SAMPLE), config))
    parts = {name: value / GIB for name, value in estimate.parts.items()}
    return {
        "peak_gib": estimate.peak / GIB,
        "phase": estimate.phase,
        "parts_gib": parts,
        "parameters": estimate.parameters,
    }


def grpo_updates(config: RunConfig, *, is_stock: bool = False, repeat: list[Any] | None = None) -> UpdateMeasurement:
    """Do `optimization.steps` updates and return their measurements.

    Rewards are functions of token ids, because those of the task are all zero with random weights, and no completion
    ends early. With `repeat`, completions of another trainer replace sampled ones.
    """
    base = _fresh(config, is_stock)
    with tempfile.TemporaryDirectory() as folder, class_of_trainer(GRPOTrainer if is_stock else grpo.GroupedTrainer):
        rewards = [Reward("spread", 1.0, spread)]
        trainer = grpo.build(config, base, examples(4 * config.prompts_per_step), rewards, Path(folder))
        _never_end(trainer)
        measurement = _sampled(trainer, repeat)
        return _train(trainer, measurement)


def sft_updates(config: RunConfig, *, is_stock: bool = False) -> UpdateMeasurement:
    """Do `optimization.steps` SFT updates and return their measurements."""
    base = _fresh(config, is_stock)
    with tempfile.TemporaryDirectory() as folder:
        trainer = sft.build(config, base, examples(config.optimization.batch_size * 2), Path(folder))
        return _train(trainer, UpdateMeasurement())


def _fresh(config: RunConfig, is_stock: bool) -> loading.Base:
    """Load the base, unpatched if `is_stock`, and reset the memory counters."""
    set_seed(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    base = loading.load_base(config.model)
    return stock(base) if is_stock else base


def _train(trainer: Any, measurement: UpdateMeasurement) -> UpdateMeasurement:
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Clock(measurement))
    trainer.train()
    for entry in trainer.state.log_history:
        if "loss" in entry:
            measurement.loss.append(entry["loss"])
            measurement.gradient_norm.append(entry["grad_norm"])
    if torch.cuda.is_available():
        measurement.reserved, measurement.allocated = (
            torch.cuda.max_memory_reserved(),
            torch.cuda.max_memory_allocated(),
        )
    return measurement


def _sampled(trainer: Any, repeat: list[Any] | None) -> UpdateMeasurement:
    """Make the trainer record its generations and their duration, or take those in `repeat`."""
    measurement, generate, sample = UpdateMeasurement(), trainer._generate, trainer._generate_single_turn
    repeated = iter(repeat or ())

    def timed(prompts: Any) -> Any:
        started_at = _now()
        made = generate(prompts)
        measurement.sampling.append(_now() - started_at)
        return made

    def noted(*arguments: Any, **options: Any) -> Any:
        made = next(repeated) if repeat else sample(*arguments, **options)
        measurement.generations.append(made)
        measurement.tokens.append(sum(map(len, made[0])))
        return made

    trainer._generate, trainer._generate_single_turn = timed, noted
    return measurement


def _never_end(trainer: Any) -> None:
    ends = sorted(set(trainer.eos_token_ids))
    trainer.generation_config.suppress_tokens = [*(trainer.generation_config.suppress_tokens or []), *ends]
    trainer.generation_kwargs["suppress_tokens"] = trainer.generation_config.suppress_tokens


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class _Clock(TrainerCallback):
    """Records the duration of each update in seconds, from the end of the previous one."""

    def __init__(self, measurement: UpdateMeasurement) -> None:
        self.measurement, self.began_at = measurement, 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began_at = self.began_at or _now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = _now()
        self.measurement.seconds.append(now - self.began_at)
        self.began_at = now


def compared(reference: UpdateMeasurement, other: UpdateMeasurement) -> dict[str, float]:
    """Return the relative differences of the first update's loss and gradient norm to those in `reference`."""

    def relative(value: float, other_value: float) -> float:
        return abs(value - other_value) / max(abs(value), 1e-12)

    return {
        "loss_difference": abs(reference.loss[0] - other.loss[0]),
        "gradient_norm_difference": relative(reference.gradient_norm[0], other.gradient_norm[0]),
    }
