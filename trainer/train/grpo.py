"""GRPO with TRL's GRPOTrainer: TRL's arguments, dataset and rewards for a RunConfig.

Differences from the GRPO paper (arXiv 2402.03300): one update per generation, so that clipping never takes effect;
token-level loss normalization by default (`dapo`, arXiv 2503.14476); KL against the initial policy, which is the base
with the adapter off, or a frozen copy of the given adapter.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig

from trainer.datasets.example import Example
from trainer.evaluate.decoding import end_ids, options, placeholder_ids
from trainer.evaluate.generation import decode
from trainer.jobs import collective
from trainer.models import adapters, chat_template, loading
from trainer.models.loading import Base
from trainer.patches import trainers
from trainer.patches.grpo_trainer import GroupedTrainer
from trainer.spec import prompt
from trainer.spec.config import RunConfig
from trainer.spec.errors import TrainerError
from trainer.spec.rewards import Reward
from trainer.train import lazy_rows


def common_arguments(config: RunConfig, output: Path) -> dict[str, Any]:
    """Return the TRL arguments shared by SFT and GRPO."""
    settings = config.optimization
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(output),
        "per_device_train_batch_size": config.micro_batch,
        "gradient_accumulation_steps": settings.accumulation,
        "max_steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        "warmup_steps": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "seed": config.seed,
        "ddp_timeout": collective.PATIENCE_SECONDS,
        "bf16": on_gpu and loading.dtype_of(config.model) == torch.bfloat16,
        "fp16": on_gpu and loading.dtype_of(config.model) == torch.float16,
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
    """Return the columns `prompt`, `images` and those for rewards; `example` is the index in `examples`."""

    def row(i: int, e: Example) -> dict[str, Any]:
        return {
            "prompt": prompt.messages(e.question, config.style, images=len(e.pictures), instruction=config.instruction),
            "answer": e.answer,
            "reference": e.reference,
            "question": e.question,
            "example": i,
        }

    return lazy_rows.dataset(examples, row)


def check_enough(config: RunConfig, examples: int) -> None:
    """Raise TrainerError if there are fewer training examples than prompts per update, as TRL would do no update."""
    prompts, group, processes = config.prompts_per_step, config.grpo.group_size, config.optimization.processes
    if config.method != "grpo" or examples >= prompts:
        return
    smaller = examples // processes * processes * group
    raise TrainerError(
        "data",
        f"{examples} training examples are fewer than the {prompts} prompts of one update (optimization.batch_size "
        f"{config.optimization.batch_size} / grpo.group_size {group}). Use more (data.train_examples)"
        + (f", or set optimization.batch_size to at most {smaller}." if smaller else "."),
    )


def reading_ids(reward: Reward, base: Base) -> Callable[..., list[float | None]]:
    """Return the reward, under its component's name, for texts decoded from token ids."""
    ends, opening = end_ids(base.model, base.processor), chat_template.read(base.processor).opening

    def function(completions: Any, completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
        texts = [opening + decode(base.processor.tokenizer, ids, ends) for ids in completion_ids]
        return reward.function(texts, completion_ids=completion_ids, **columns)

    function.__name__ = reward.name
    return function


def as_own(reward: Reward) -> Callable[..., Any]:
    """Return a user's reward without the column `example`, which is for our own use."""

    def function(example: Any, **arguments: Any) -> Any:
        return user_function(**arguments)

    async def function_later(example: Any, **arguments: Any) -> Any:
        return await user_function(**arguments)

    user_function: Callable[..., Any] = reward.function
    wrapped: Callable[..., Any] = function_later if inspect.iscoroutinefunction(user_function) else function
    wrapped.__name__ = reward.name
    return wrapped


def check_vllm(config: RunConfig) -> None:
    """Raise TrainerError if vLLM is requested but not installed, or would not sample from the policy being trained.

    In colocate mode, TRL passes prompts with expanded image tokens together with the images, and vLLM expands them
    again (TRL issues 6294 and 6401, open in November 2026). A server prepares images by its own settings. Into
    quantized weights, adapters are merged at every update, with rounding that training does not see.
    """
    if config.method != "grpo" or config.grpo.vllm == "off":
        return
    reason = None
    if config.grpo.vllm == "colocate":
        reason = "with TRL 1.16, image tokens would be expanded twice (TRL issue 6294)"
    elif config.model.quantization != "none":
        reason = f"it would sample from {config.model.quantization} weights with the adapter rounded into them"
    elif (config.model.longest_edge, config.model.min_pixels, config.model.max_pixels) != (None, None, None):
        reason = "the server would ignore model.longest_edge, min_pixels and max_pixels"
    elif config.lora.vision:
        reason = "an adapter in the vision tower (lora.vision) was never tried with it"
    if reason is not None:
        raise TrainerError(
            "dependency", f"grpo.vllm={config.grpo.vllm} is not supported here: {reason}. Set it to off."
        )
    if find_spec("vllm") is None:
        raise TrainerError(
            "dependency", f"grpo.vllm={config.grpo.vllm} needs vLLM. Run `pip install vllm`, or set it to off."
        )


def _generating(config: RunConfig, base: Base) -> dict[str, Any]:
    """Return TRL's sampling arguments."""
    settings = config.grpo
    if settings.vllm == "off":
        return {"generation_kwargs": options(base.model, base.processor, sampled=True)}
    return {
        "use_vllm": True,
        "vllm_mode": settings.vllm,
        "vllm_server_base_url": settings.vllm_server if settings.vllm == "server" else None,
        "generation_kwargs": {
            "logit_bias": dict.fromkeys(placeholder_ids(base.model), -100.0),
            "stop_token_ids": sorted(end_ids(base.model, base.processor)),
        },
    }


def build(
    config: RunConfig,
    base: Base,
    examples: Sequence[Example],
    rewards: Sequence[Reward],
    output: Path,
    start: Path | None = None,
) -> GroupedTrainer:
    """Return a trainer with one generation per update; `start` is the folder of the adapter to start from, if any."""
    settings = config.grpo
    arguments = GRPOConfig(
        **common_arguments(config, output),
        num_generations=settings.group_size,
        max_completion_length=config.max_tokens,
        temperature=settings.temperature,
        beta=settings.beta,
        # The mean over all tokens of an update. TRL's own bnpo takes the mean of each pass and depends on their number.
        loss_type="dapo" if settings.loss == "bnpo" else settings.loss,
        scale_rewards=settings.scale,
        importance_sampling_level=settings.importance,
        mask_truncated_completions=settings.mask_truncated,
        entropy_coef=settings.entropy_coef,
        reward_weights=[reward.weight for reward in rewards],
        log_completions=False,
        **_generating(config, base),
    )
    trainer = GroupedTrainer(
        **adapters.policy(base, config.lora, start),
        reward_funcs=[as_own(reward) if reward.is_own else reading_ids(reward, base) for reward in rewards],
        args=arguments,
        train_dataset=rows(examples, config),
        processing_class=base.processor,
    )
    adapters.in_float32(trainer.model, start)
    trainers.set_end_tokens(trainer, end_ids(base.model, base.processor))
    return trainer
