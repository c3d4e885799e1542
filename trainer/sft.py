"""SFT on TRL's SFTTrainer: imitation of the reference reasoning, loss on the completion only.

Prompt and pixels come from the same builder as GRPO's; knows nothing of databases.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from trainer import adapters, lazy_rows, prompt
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

    def row(i: int, e: Example) -> dict[str, Any]:
        target = prompt.target(e.reference or "", e.answer, config.style)
        return {
            "prompt": prompt.messages(e.question, config.style, images=len(e.pictures), instruction=config.instruction),
            "completion": [{"role": "assistant", "content": [{"type": "text", "text": target}]}],
        }

    return lazy_rows.dataset(usable, row)


def build(
    config: RunConfig, base: Base, examples: Sequence[Example], output: Path, start: Path | None = None
) -> SFTTrainer:
    """An SFTTrainer ready for `train()`. `start` holds the adapter to go on from."""
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
        train_dataset=rows(examples, config),
        processing_class=base.processor,
    )
    adapters.in_float32(trainer.model, start)
    # Qwen2.5-VL and others decline a count of the update's tokens, meant for a loss of their own. TRL's needs it: else
    # each pass has its own mean, and the update depends on accumulation.
    trainer.model_accepts_loss_kwargs = True
    return trainer
