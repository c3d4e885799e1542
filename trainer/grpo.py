"""GRPO on TRL's GRPOTrainer. Knows how a RunConfig becomes TRL arguments; nothing of databases.

How it differs from DeepSeek's paper (arXiv 2402.03300): one update a generation (no clipping ever bites),
token-level loss normalization by default (`dapo`, arXiv 2503.14476), KL against the base with the adapter off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from trainer import models, prompt
from trainer.config import RunConfig
from trainer.datasets.example import Example
from trainer.generation import decode, end_ids, placeholder_ids
from trainer.models import Base
from trainer.rewards import Reward


def common_arguments(config: RunConfig, output: Path) -> dict[str, Any]:
    """What SFT and GRPO share of TRL's arguments."""
    settings = config.optimization
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(output),
        "per_device_train_batch_size": settings.batch_size // settings.accumulation,
        "gradient_accumulation_steps": settings.accumulation,
        "max_steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        "warmup_steps": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "seed": config.seed,
        "bf16": on_gpu and models.dtype_of(config.model) == torch.bfloat16,
        "use_cpu": not on_gpu,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": on_gpu,
    }


def rows(examples: Sequence[Example], config: RunConfig) -> Dataset:
    """Columns `prompt`, `images`, and those that rewards may read; `example` is the index in `examples`."""
    return Dataset.from_list(
        [
            {
                "prompt": prompt.messages(
                    e.question, config.style, images=len(e.images), instruction=config.instruction
                ),
                "images": list(e.images),
                "answer": e.answer,
                "reference": e.reference,
                "question": e.question,
                "example": i,
            }
            for i, e in enumerate(examples)
        ]
    )


def reading_ids(reward: Reward, base: Base) -> Callable[..., list[float | None]]:
    """The reward on texts decoded from token ids, under the component's own name."""
    ends = end_ids(base.model, base.processor)

    def function(completions: Any, completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
        texts = [decode(base.processor.tokenizer, ids, ends) for ids in completion_ids]
        return reward.function(texts, completion_ids=completion_ids, **columns)

    function.__name__ = reward.name
    return function


def build(
    config: RunConfig, base: Base, examples: Sequence[Example], rewards: Sequence[Reward], output: Path
) -> GRPOTrainer:
    """A GRPOTrainer ready for `train()`; one generation an update."""
    settings = config.grpo
    arguments = GRPOConfig(
        **common_arguments(config, output),
        num_generations=settings.group_size,
        max_completion_length=config.max_tokens,
        temperature=settings.temperature,
        beta=settings.beta,
        loss_type=settings.loss,
        scale_rewards=settings.scale,
        entropy_coef=settings.entropy_coef,
        reward_weights=[reward.weight for reward in rewards],
        log_completions=False,
        generation_kwargs={"suppress_tokens": placeholder_ids(base.model)},
    )
    return GRPOTrainer(
        model=base.model,
        reward_funcs=[reading_ids(reward, base) for reward in rewards],
        args=arguments,
        train_dataset=rows(examples, config),
        processing_class=base.processor,
        peft_config=models.adapter(config.lora),
    )
