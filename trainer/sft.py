"""SFT on TRL's SFTTrainer: imitation of the reference reasoning, loss on the completion only.

Prompt and pixels come from the same builder as GRPO's; knows nothing of databases.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from trainer import models, prompt
from trainer.config import RunConfig
from trainer.datasets.example import Example
from trainer.errors import TrainerError
from trainer.grpo import common_arguments
from trainer.models import Base


def rows(examples: Sequence[Example], config: RunConfig) -> Dataset:
    """Columns `prompt`, `completion`, `images`. Style cot needs a reference; raises TrainerError where none has one."""
    usable = [e for e in examples if config.style == "direct" or e.reference]
    if not usable:
        raise TrainerError(
            "data", f"{config.data.dataset} has no annotated reasoning to imitate. Choose style direct, or GRPO."
        )
    return Dataset.from_list(
        [
            {
                "prompt": prompt.messages(
                    e.question, config.style, images=len(e.images), instruction=config.instruction
                ),
                "completion": [
                    {
                        "role": "assistant",
                        "content": [{"type": "text", "text": prompt.target(e.reference or "", e.answer, config.style)}],
                    }
                ],
                "images": list(e.images),
            }
            for e in usable
        ]
    )


def build(config: RunConfig, base: Base, examples: Sequence[Example], output: Path) -> SFTTrainer:
    """An SFTTrainer ready for `train()`."""
    arguments = SFTConfig(**common_arguments(config, output), max_length=None, completion_only_loss=True)
    return SFTTrainer(
        model=base.model,
        args=arguments,
        train_dataset=rows(examples, config),
        processing_class=base.processor,
        peft_config=models.adapter(config.lora),
    )
