"""SFT with TRL's SFTTrainer: imitation of reference reasoning, with the loss on completions only.

Prompts and pixels are made by the same functions as for GRPO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import nlargest
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from trainer.datasets.example import Example
from trainer.models import adapters, chat_template
from trainer.models.loading import Base
from trainer.patches import trainers
from trainer.spec import prompt
from trainer.spec.config import RunConfig
from trainer.spec.errors import TrainerError
from trainer.train import lazy_rows
from trainer.train.grpo import common_arguments

TRIED = 16
"""Number of examples with which the chat template is tried before training."""
LOOKED_AT = 16
"""Number of completions with the most characters, among which the one with the most tokens is searched."""


def usable(examples: Sequence[Example], config: RunConfig) -> list[Example]:
    """Return the examples that can be imitated; style cot needs a reference. Raises TrainerError if there are none."""
    imitable = [e for e in examples if config.style == "direct" or e.reference]
    if not imitable:
        raise TrainerError(
            "data", f"{config.data.dataset} has no annotated reasoning to imitate. Choose style direct, or GRPO."
        )
    return imitable


def target(example: Example, config: RunConfig) -> str:
    return prompt.target(example.reference or "", example.answer, config.style)


def rows(examples: Sequence[Example], config: RunConfig, write: Callable[[str], str] = str) -> Dataset:
    """Return the columns `prompt`, `completion` and `images`; `write` turns a target into the text of a turn.

    Raises TrainerError if nothing can be imitated.
    """

    def row(i: int, e: Example) -> dict[str, Any]:
        return {
            "prompt": prompt.messages(e.question, config.style, images=len(e.pictures), instruction=config.instruction),
            "completion": [chat_template.spoken(write(target(e, config)))],
        }

    return lazy_rows.dataset(usable(examples, config), row)


def writer(processor: Any, examples: Sequence[Example], config: RunConfig) -> Callable[[str], str]:
    """Return a function that prepares a target for the chat template so that all of it is imitated.

    It is tried with `TRIED` examples. Raises TrainerError if the template would drop or change part of one.
    """
    turn, name = chat_template.read(processor), repr(config.model.id)
    imitable = usable(examples, config)
    for e in imitable[:: max(1, len(imitable) // TRIED)]:
        conversation = prompt.messages(e.question, config.style, images=len(e.pictures), instruction=config.instruction)
        whole = turn.whole(target(e, config))
        is_whole = chat_template.imitated_turn(processor, conversation, whole, config.style, name) == whole
    return turn.whole if is_whole else lambda text: turn.whole(text).removeprefix(turn.opening)


def longest(tokenizer: Any, examples: Sequence[Example], config: RunConfig) -> int:
    """Return the number of tokens of the longest completion to imitate, among those with the most characters."""
    texts = nlargest(LOOKED_AT, (target(e, config) for e in usable(examples, config)), key=len)
    return max(map(len, tokenizer(texts)["input_ids"]))


def build(
    config: RunConfig, base: Base, examples: Sequence[Example], output: Path, start: Path | None = None
) -> SFTTrainer:
    """Return an SFTTrainer; `start` is the folder of the adapter to start from, if any.

    Raises TrainerError if the model's chat template would drop or change part of a target.
    """
    arguments = SFTConfig(
        **common_arguments(config, output),
        max_length=None,
        completion_only_loss=True,
        # Columns are made when rows are read; those stored in the dataset are not the model's inputs.
        remove_unused_columns=False,
    )
    trainer = SFTTrainer(
        **adapters.policy(base, config.lora, start),
        args=arguments,
        train_dataset=rows(examples, config, writer(base.processor, examples, config)),
        processing_class=base.processor,
    )
    adapters.in_float32(trainer.model, start)
    trainers.count_tokens_of_the_update(trainer)
    return trainer
