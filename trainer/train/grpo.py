"""GRPO on TRL's GRPOTrainer. Knows how a RunConfig becomes TRL arguments; nothing of databases.

How it differs from DeepSeek's paper (arXiv 2402.03300): one update a generation (no clipping ever bites),
token-level loss normalization by default (`dapo`, arXiv 2503.14476), KL against the policy that the run starts from:
the base with the adapter off, or a frozen copy of the adapter that it was given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import grpo_trainer
from trl.trainer import utils as trl_utils

from trainer.evaluate.decoding import end_ids, options, placeholder_ids, without_defaults
from trainer.evaluate.generation import decode
from trainer.examples.example import Example
from trainer.jobs import collective
from trainer.models import adapters, chat_template, loading
from trainer.models.loading import Base
from trainer.spec import prompt
from trainer.spec.config import RunConfig
from trainer.spec.errors import TrainerError
from trainer.spec.rewards import Reward
from trainer.train import lazy_rows


def common_arguments(config: RunConfig, output: Path) -> dict[str, Any]:
    """Return what SFT and GRPO share of TRL's arguments."""
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
    """Return columns `prompt`, `images`, and those that rewards may read; `example` is the index in `examples`."""

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
    """Raise TrainerError where there are fewer training examples than an update has prompts: TRL would do none."""
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
    """Return the reward on texts decoded from token ids, under the component's own name."""
    ends, opening = end_ids(base.model, base.processor), chat_template.read(base.processor).opening

    def function(completions: Any, completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
        texts = [opening + decode(base.processor.tokenizer, ids, ends) for ids in completion_ids]
        return reward.function(texts, completion_ids=completion_ids, **columns)

    function.__name__ = reward.name
    return function


def as_own(reward: Reward) -> Callable[..., Any]:
    """Return a reward of the user's own as TRL calls it, without the column that only we need."""

    def function(example: Any, **arguments: Any) -> Any:
        return own(**arguments)

    async def function_later(example: Any, **arguments: Any) -> Any:
        return await own(**arguments)

    own: Callable[..., Any] = reward.function
    found: Callable[..., Any] = function_later if inspect.iscoroutinefunction(own) else function
    found.__name__ = reward.name
    return found


class ByEpoch(Sampler[int]):
    """TRL's sampler in the order of the epoch at hand: left alone, it begins with the first epoch's after a resume."""

    def __init__(self, sampler: Any, epoch: Callable[[], int]) -> None:
        self.sampler, self.epoch = sampler, epoch

    def __iter__(self) -> Iterator[int]:
        self.sampler.generator.manual_seed(self.sampler.seed)
        for _ in range(self.epoch()):
            torch.randperm(self.sampler.num_samples, generator=self.sampler.generator)
        yield from self.sampler

    def __len__(self) -> int:
        return len(self.sampler)


class GroupedTrainer(GRPOTrainer):
    """Keeps the completions of a prompt together where a batch is split for accumulation, so that they share it.

    TRL shuffles a generation before it splits it; every row goes into the same update in any order. Off the GPU it
    also sends the prompt's positions through the vocabulary, only to mask them. Several processes sample what one
    would. The entropy bonus is the mean over the tokens of the whole update, not of each pass.
    """

    entropy_coef: float

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        # A whole epoch may fall short of its number by a rounding.
        return ByEpoch(super()._get_train_sampler(dataset), lambda: int((self.state.epoch or 0.0) + 1e-6))

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        with _replaced(grpo_trainer, "shuffle_sequence_dict", lambda batch: batch):
            return super()._prepare_inputs(generation_batch)

    def _generate(self, prompts: Any) -> Any:
        with collective.one_dice(), without_defaults(self.model):
            return super()._generate(prompts)

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        coefficient, mode = self.entropy_coef, "train" if self.model.training else "eval"
        if not coefficient or mode == "eval":
            return super().compute_loss(model, inputs, *rest, **named)
        # TRL takes the mean of each pass, which weighs a token more the fewer there are beside it.
        passes = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        part = inputs["completion_mask"].sum() * passes / inputs["num_items_in_batch"].clamp(min=1)
        self.entropy_coef = coefficient * float(part)
        try:
            return super().compute_loss(model, inputs, *rest, **named)
        finally:
            self.entropy_coef = coefficient
            logged = self._metrics[mode]["entropy_coef"]
            logged[-1:] = [coefficient] * len(logged[-1:])

    def _get_per_token_logps_and_entropies(self, *arguments: Any, **inputs: Any) -> Any:
        # LLaVA-OneVision's processor says how many pictures a prompt has. TRL gives that to its reference pass, which
        # does not know the word, and not to the update; with one picture a prompt the model does without.
        inputs.pop("batch_num_images", None)
        with _replaced(trl_utils, "_use_triton", lambda device: True):
            return super()._get_per_token_logps_and_entropies(*arguments, **inputs)


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """A module's function stands aside; it must exist, or TRL has changed."""
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


def _generating(config: RunConfig, base: Base) -> dict[str, Any]:
    """TRL's arguments of sampling. Raises TrainerError where vLLM is asked for and absent."""
    settings = config.grpo
    if settings.vllm == "off":
        return {"generation_kwargs": options(base.model, base.processor, sampled=True)}
    if find_spec("vllm") is None:
        raise TrainerError("dependency", f"grpo.vllm={settings.vllm} needs vLLM: pip install vllm, or set it to off.")
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
) -> GRPOTrainer:
    """Return a GRPOTrainer ready for `train()`; one generation an update. `start` holds the adapter to go on from."""
    settings = config.grpo
    arguments = GRPOConfig(
        **common_arguments(config, output),
        num_generations=settings.group_size,
        max_completion_length=config.max_tokens,
        temperature=settings.temperature,
        beta=settings.beta,
        # The mean over all tokens of an update. TRL's own bnpo takes that of each pass, and depends on their number.
        loss_type="dapo" if settings.loss == "bnpo" else settings.loss,
        scale_rewards=settings.scale,
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
    trainer.eos_token_ids = sorted(end_ids(base.model, base.processor))
    return trainer
