"""SFT on TRL's SFTTrainer: imitation of the reference reasoning, loss on the completion only.

Prompt and pixels come from the same builder as GRPO's; knows nothing of databases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import nlargest
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from trainer.examples.example import Example
from trainer.models import adapters, chat_template
from trainer.models.loading import Base
from trainer.spec import prompt
from trainer.spec.config import RunConfig
from trainer.spec.errors import TrainerError
from trainer.train import lazy_rows
from trainer.train.grpo import common_arguments

TRIED = 16
"""Examples on which the chat template is tried before a training."""
LOOKED_AT = 16
"""Completions of the most characters, one of which has the most tokens."""


def usable(examples: Sequence[Example], config: RunConfig) -> list[Example]:
    """Return those that can be imitated: style cot needs a reference. Raises TrainerError where none has one."""
    found = [e for e in examples if config.style == "direct" or e.reference]
    if not found:
        raise TrainerError(
            "data", f"{config.data.dataset} has no annotated reasoning to imitate. Choose style direct, or GRPO."
        )
    return found


def target(example: Example, config: RunConfig) -> str:
    return prompt.target(example.reference or "", example.answer, config.style)


def rows(examples: Sequence[Example], config: RunConfig, write: Callable[[str], str] = str) -> Dataset:
    """Return columns `prompt`, `completion`, `images`; `write` makes the text of a turn from a target.

    Raises TrainerError where nothing can be imitated.
    """

    def row(i: int, e: Example) -> dict[str, Any]:
        return {
            "prompt": prompt.messages(e.question, config.style, images=len(e.pictures), instruction=config.instruction),
            "completion": [chat_template.spoken(write(target(e, config)))],
        }

    return lazy_rows.dataset(usable(examples, config), row)


def writer(processor: Any, examples: Sequence[Example], config: RunConfig) -> Callable[[str], str]:
    """Return how the chat template has to be given a target so that all of it is imitated.

    Tried on `TRIED` examples. Raises TrainerError where the template would drop or change part of one.
    """
    turn, name = chat_template.read(processor), repr(config.model.id)
    known = usable(examples, config)
    for e in known[:: max(1, len(known) // TRIED)]:
        asked = prompt.messages(e.question, config.style, images=len(e.pictures), instruction=config.instruction)
        whole = turn.whole(target(e, config))
        is_whole = chat_template.imitated(processor, asked, whole, config.style, name) == whole
    return turn.whole if is_whole else lambda text: turn.whole(text).removeprefix(turn.opening)


def longest(tokenizer: Any, examples: Sequence[Example], config: RunConfig) -> int:
    """Return tokens of the longest completion to imitate, looked for among those of the most characters."""
    texts = nlargest(LOOKED_AT, (target(e, config) for e in usable(examples, config)), key=len)
    return max(map(len, tokenizer(texts)["input_ids"]))


def build(
    config: RunConfig, base: Base, examples: Sequence[Example], output: Path, start: Path | None = None
) -> SFTTrainer:
    """Return an SFTTrainer ready for `train()`. `start` holds the adapter to go on from.

    Raises TrainerError where the model's chat template would not let all of a target be imitated.
    """
    arguments = SFTConfig(
        **common_arguments(config, output),
        max_length=None,
        completion_only_loss=True,
        # The columns are made on the way; those that lie in the dataset are none of the model's.
        remove_unused_columns=False,
    )
    trainer = SFTTrainer(
        **adapters.policy(base, config.lora, start),
        args=arguments,
        train_dataset=rows(examples, config, writer(base.processor, examples, config)),
        processing_class=base.processor,
    )
    adapters.in_float32(trainer.model, start)
    # Qwen2.5-VL and others decline a count of the update's tokens, meant for a loss of their own. TRL's needs it: else
    # each pass has its own mean, and the update depends on accumulation.
    trainer.model_accepts_loss_kwargs = True
    return trainer
