"""Keep the completions of a prompt together where TRL splits a generation for accumulation.

TRL shuffles the rows first (`trl.trainer.utils.shuffle_sequence_dict`), so that each pass would have most prompts. The
order does not matter for the update; without shuffling, the completions in a pass share prompts and images.

Read in TRL 1.16.0. Contract: tests/training/patches/test_grpo_trainer.py.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from trl.trainer import grpo_trainer

from trainer.patches.replacing import replaced


def unshuffled() -> AbstractContextManager[None]:
    """Keep the order of rows while GRPOTrainer prepares its inputs."""
    return replaced(grpo_trainer, "shuffle_sequence_dict", lambda batch: batch)
