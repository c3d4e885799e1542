"""Try a configuration before it runs: time one real update, and run the heaviest pass. Nothing is kept."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from trainer import datasets
from trainer.datasets.example import Example
from trainer.evaluate import generation
from trainer.evaluate.similarity import Encoder
from trainer.fit import memory
from trainer.models import loading
from trainer.patches import trainers
from trainer.spec.config import RunConfig
from trainer.spec.rewards import build
from trainer.train import grpo, sft


class Calibration(NamedTuple):
    seconds: float
    """Duration of the first update, which is slower than later ones."""
    peak: int
    """Peak memory of the process, in bytes."""


def calibrate(config: RunConfig) -> Calibration:
    """Load the base and do one process's share of an update in a temporary folder.

    Raises TrainerError, or whatever a run would raise.
    """
    settings = config.optimization
    share = {"steps": 1, "batch_size": settings.batch_size // settings.processes, "processes": 1}
    once = config.model_copy(update={"optimization": settings.model_copy(update=share)})
    examples = datasets.load_role(config.data, "train", min(config.prompts_per_step, config.data.train_examples))
    grpo.check_enough(config, len(examples))
    base = loading.load_base(config.model)
    with tempfile.TemporaryDirectory() as folder:
        trainer: Any
        if config.method == "grpo":
            encoder = Encoder(config.evaluation.encoder) if config.evaluation.encoder else None
            trainer = grpo.build(once, base, examples, tuple(build(config, encoder)), Path(folder))
        else:
            trainer = sft.build(once, base, examples, Path(folder))
        trainers.print_no_logs(trainer)
        start = time.perf_counter()
        trainer.train()
        return Calibration(time.perf_counter() - start, memory.measured_peak())


def rehearse(trainer: Any, processor: Any, examples: Sequence[Example], config: RunConfig) -> None:
    """Run the heaviest pass that training may need: the largest examples with the longest completions.

    If it does not fit into memory, training fails here instead of hours later. As in training, GRPO's rows are groups
    of one prompt, and gradient checkpointing is on if the run uses it. Weights, gradients, random state and peak memory
    are not changed.
    """
    model = trainer.model
    copies = config.grpo.group_size if config.method == "grpo" else 1
    groups = (example for example in cycle(memory.by_size(examples)) for _ in range(copies))
    rows = list(islice(groups, config.micro_batch))
    texts = [generation.render(processor, example, config.style, config.instruction) for example in rows]
    prompts = generation.encode(processor, rows, texts)
    length = config.max_tokens if config.method == "grpo" else sft.longest(processor.tokenizer, examples, config)
    # Each row gets its own token: completions with the same beginning would share computation.
    fillers = [[256 + i % 256] * length for i in range(len(rows))]
    inputs, tokens, _ = generation.continued(model, processor, prompts, fillers)
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, -tokens.shape[1] :] = tokens
    if config.optimization.gradient_checkpointing:
        # The trainer does this when training begins.
        model.activation_checkpointing_enable(trainer.args.activation_checkpointing_kwargs)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), trainer.accelerator.autocast():
        model.train()
        # TRL's own loss: the default one would hold the logits of all tokens, which an update never does.
        model(**inputs, labels=labels, fused_lm_head=True).loss.backward()
    model.zero_grad(set_to_none=True)
    memory.forget_peak()
