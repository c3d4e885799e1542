"""The parts of the GPU benchmark, most important first. Each returns its results and can run alone."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import accelerate
import bitsandbytes
import peft
import torch
import transformers
import trl

from benchmarks.gpu import models, steps
from store.db.engine import open_store
from store.jobs import get_job
from store.metrics import read_series
from trainer import launch
from trainer.evaluate import generation
from trainer.evaluate.generation import Decoding
from trainer.fit import memory
from trainer.jobs.job import execute
from trainer.models import loading
from trainer.spec import config as configs
from trainer.spec.config import RunConfig

Figures = dict[str, Any]
UPDATES = 3
CHECKED = {
    "max_tokens": 6,
    "optimization.batch_size": 8,
    "optimization.accumulation": 2,
    "grpo.group_size": 4,
    "lora.rank": 4,
    "data.train_examples": 32,
    "data.val_examples": 8,
    "data.test_examples": 8,
    "evaluation.probe_examples": 4,
}
"""Replacements of the presets' sizes for a check."""


def settings(preset: str, folder: Path, *, check: bool, **further: Any) -> RunConfig:
    """Return the preset's configuration for the model with random weights in `folder`."""
    name = preset.rsplit("-", 1)[0]
    smaller = CHECKED | {"model.longest_edge": 96 if name.startswith("smolvlm") else None} if check else {}
    if check and name.startswith("qwen"):
        smaller["model.max_pixels"] = 112 * 112
    path = models.write(name, folder, small=check)
    changes = {"model.id": str(path), "optimization.steps": UPDATES, "optimization.warmup_steps": 0}
    return _changed(preset, changes | smaller | further)


def _changed(preset: str, changes: dict[str, Any]) -> RunConfig:
    return configs.override(configs.preset(preset), {name: json.dumps(value) for name, value in changes.items()})


def machine(folder: Path, check: bool) -> Figures:
    """Return versions and device."""
    figures: Figures = {"torch": torch.__version__, "cuda": torch.version.cuda}
    packages = (transformers, trl, peft, accelerate, bitsandbytes)
    figures |= {package.__name__: package.__version__ for package in packages}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        figures |= {
            "device": properties.name,
            "memory_gib": properties.total_memory / steps.GIB,
            "capability": f"{properties.major}.{properties.minor}",
            "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
        }
    base = loading.load_base(settings("smolvlm-256m-grpo", folder, check=check).model)
    return figures | {"attention": base.model.config._attn_implementation, "dtype": str(base.model.dtype)}


def grpo(preset: str, quantization: str, folder: Path, check: bool) -> Figures:
    """Time updates of the trainer and of stock TRL alternately, then compare both on the trainer's completions.

    The same comparison of two stock runs with different accumulation shows the effect of precision alone.
    """
    config = settings(preset, folder, check=check, **{"model.quantization": quantization})
    our_updates, stock_updates = steps.grpo_updates(config), steps.grpo_updates(config, is_stock=True)
    again = steps.grpo_updates(_once(config), repeat=our_updates.generations)
    stock = steps.grpo_updates(_once(config), is_stock=True, repeat=our_updates.generations)
    halved = _once(config, accumulation=config.optimization.accumulation * 2)
    other = steps.grpo_updates(halved, is_stock=True, repeat=our_updates.generations)
    figures: Figures = {
        "ours": our_updates.in_numbers(),
        "stock": stock_updates.in_numbers(),
        "expected": steps.expected(config),
    }
    figures["on_the_same_completions"] = steps.compared(stock, again)
    figures["stock_with_other_accumulation"] = steps.compared(stock, other)
    figures["ratio_of_updates"] = figures["stock"]["update_s"] / figures["ours"]["update_s"]
    figures["ratio_of_tokens_per_second"] = figures["ours"]["tokens_per_second"] / figures["stock"]["tokens_per_second"]
    return figures


def _once(config: RunConfig, accumulation: int | None = None) -> RunConfig:
    changed = {"steps": 1, "accumulation": accumulation or config.optimization.accumulation}
    return config.model_copy(update={"optimization": config.optimization.model_copy(update=changed)})


def sft(preset: str, quantization: str, folder: Path, check: bool) -> Figures:
    """Time SFT updates of the trainer and of stock TRL, and compare the first update."""
    config = settings(preset, folder, check=check, **{"model.quantization": quantization})
    our_updates, stock_updates = steps.sft_updates(config), steps.sft_updates(config, is_stock=True)
    figures: Figures = {
        "ours": our_updates.in_numbers(),
        "stock": stock_updates.in_numbers(),
        "expected": steps.expected(config),
    }
    figures["on_the_same_completions"] = steps.compared(stock_updates, our_updates)
    figures["ratio_of_updates"] = figures["stock"]["update_s"] / figures["ours"]["update_s"]
    return figures


def card(gigabytes: int, preset: str, quantization: str, folder: Path, check: bool) -> Figures:
    """Test whether a preset fits a GPU of this size: refused by the estimate, or one update done within its memory."""
    config = _once(settings(preset, folder, check=check, **{"model.quantization": quantization}))
    expected = steps.expected(config)
    figures: Figures = {"expected": expected, "refused": expected["peak_gib"] > gigabytes}
    if figures["refused"] or not torch.cuda.is_available():
        return figures
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes * steps.GIB / total))
    updates = steps.grpo_updates if config.method == "grpo" else steps.sft_updates
    try:
        return figures | {"fits": True, "ours": updates(config).in_numbers()}
    except torch.OutOfMemoryError as error:
        return figures | {"fits": False, "error": str(error).splitlines()[0]}


def batches(folder: Path, check: bool) -> Figures:
    """Count greedy answers that depend on the batch size."""
    config = settings("smolvlm-256m-grpo", folder, check=check)
    base = loading.load_base(config.model)
    examples = steps.examples(8 if check else 32)
    decoding = Decoding(config.max_tokens if check else 64)

    def texts(batch_size: int) -> list[str]:
        answered = generation.answers(
            base.model, base.processor, examples, decoding, style=config.style, batch_size=batch_size
        )
        return [answer.text for _, batch in answered for answer in batch]

    alone, together = texts(1), texts(len(examples))
    return {"answers": len(examples), "different": sum(a != b for a, b in zip(alone, together, strict=True))}


def demo(folder: Path, check: bool) -> Figures:
    """Train the embedded model like the demo for some updates, and return what it learnt."""
    changes = {"optimization.steps": 2 if check else 60, "data.val_examples": 16, "data.test_examples": 16}
    smaller = CHECKED | {"optimization.steps": 2, "max_tokens": 12} if check else {}
    config = _changed("shapes-grpo", changes | smaller)
    return _run(config, folder)


def retry(folder: Path, check: bool) -> Figures:
    """Run out of memory on purpose, and continue with double accumulation by `retry_on_oom`."""
    if not torch.cuda.is_available():
        return {"left out": "there is no GPU"}
    name = "smolvlm-256m-grpo"
    config = settings(name, folder, check=check, **{"optimization.accumulation": 1, "optimization.retry_on_oom": True})
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 10 * steps.GIB / total))
    return _run(config, folder)


def _run(config: RunConfig, folder: Path) -> Figures:
    """Train like a job, into a separate database, and run the jobs that a retry adds."""
    with tempfile.TemporaryDirectory(dir=folder) as place, closing(open_store(str(Path(place, "runs.db")))) as store:
        started_at, (run, added) = time.perf_counter(), launch.create(store, config)
        code = execute(store, get_job(store, added.uid))
        figures: Figures = {"exit": code, "seconds": time.perf_counter() - started_at}
        series = read_series(store, run.id, ["reward", "accuracy", "step_time"])
        for name, values in series.items():
            if len(values.value):
                figures |= {f"{name}_first": float(values.value[0]), f"{name}_last": float(values.value[-1])}
        return figures | {"peak_gib": memory.measured_peak() / steps.GIB}


Part = Callable[[Path, bool], Figures]
PARTS: dict[str, Part] = {
    "machine": machine,
    "smolvlm-256m grpo bf16": partial(grpo, "smolvlm-256m-grpo", "none"),
    "qwen2-vl-2b grpo nf4": partial(grpo, "qwen2-vl-2b-grpo", "nf4"),
    "qwen2-vl-2b sft nf4": partial(sft, "qwen2-vl-2b-sft", "nf4"),
    "smolvlm-500m grpo bf16": partial(grpo, "smolvlm-500m-grpo", "none"),
    "smolvlm-256m sft bf16": partial(sft, "smolvlm-256m-sft", "none"),
    "smolvlm-500m sft bf16": partial(sft, "smolvlm-500m-sft", "none"),
    "qwen2-vl-2b grpo bf16": partial(grpo, "qwen2-vl-2b-grpo", "none"),
    "qwen2-vl-2b sft bf16": partial(sft, "qwen2-vl-2b-sft", "none"),
    "smolvlm-256m grpo nf4": partial(grpo, "smolvlm-256m-grpo", "nf4"),
    "smolvlm-500m grpo nf4": partial(grpo, "smolvlm-500m-grpo", "nf4"),
    "card of 16 GB, qwen2-vl-2b grpo nf4": partial(card, 16, "qwen2-vl-2b-grpo", "nf4"),
    "card of 16 GB, qwen2-vl-2b sft nf4": partial(card, 16, "qwen2-vl-2b-sft", "nf4"),
    "card of 24 GB, qwen2-vl-2b grpo bf16": partial(card, 24, "qwen2-vl-2b-grpo", "none"),
    "card of 16 GB, smolvlm-500m grpo bf16": partial(card, 16, "smolvlm-500m-grpo", "none"),
    "card of 16 GB, smolvlm-256m grpo bf16": partial(card, 16, "smolvlm-256m-grpo", "none"),
    "out of memory": retry,
    "answers by batch size": batches,
    "demo": demo,
}
