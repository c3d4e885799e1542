"""Apply settings for which TRL's trainers have no arguments.

Read in TRL 1.16.0 and transformers 5.23.0. Contract: tests/training/patches/test_trainers.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transformers import PrinterCallback


def set_end_tokens(trainer: Any, ids: Iterable[int]) -> None:
    """Make GRPOTrainer end completions at these tokens.

    It reads them only from the model's generation config, which may lack the token that ends a turn.
    """
    trainer.eos_token_ids = sorted(ids)


def count_tokens_of_the_update(trainer: Any) -> None:
    """Make Trainer pass the number of tokens of the whole update to the loss.

    Qwen2.5-VL and others decline that number, which is meant for their own loss. TRL's loss needs it: without it, each
    pass has its own mean, and the update depends on accumulation.
    """
    trainer.model_accepts_loss_kwargs = True


def resume_token_count(trainer: Any, tokens: int) -> None:
    """Continue counting trained tokens from `tokens`, because TRL's checkpoints do not include the count."""
    trainer._total_train_tokens = tokens


def print_no_logs(trainer: Any) -> None:
    """Remove the callback that prints every log entry, which Trainer adds if progress bars are off."""
    trainer.remove_callback(PrinterCallback)
