"""Make the other processes of a training follow the first. With a single process, nothing happens.

All processes must call the same function at the same point, or they will wait for each other until a timeout.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate.utils import broadcast_object_list
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.jobs import ranks

Row = TypeVar("Row")
PATIENCE_SECONDS = 24 * 3600
"""How long the others wait for the first process's probe, validation or database."""


def join() -> None:
    """Connect to the other processes of a CPU job, with a timeout, which TRL does not set there."""
    if ranks.is_rank() and not torch.cuda.is_available():
        distributed.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE_SECONDS))


def agree(control: TrainerControl) -> None:
    """Make all processes stop and save when the first does."""
    words = [(control.should_training_stop, control.should_save)]
    broadcast_object_list(words)
    control.should_training_stop, control.should_save = words[0]


class Follower(TrainerCallback):
    """Makes the other processes do after each step what the first decided."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if logs and "train_runtime" not in logs:
            agree(control)
