"""Compute logits only for completion tokens, also on the CPU.

TRL drops masked positions before it computes logits, but only if it uses Triton (`trl.trainer.utils._use_triton`);
otherwise it computes the prompt's logits and then masks them.

Read in TRL 1.16.0. Contract: tests/training/patches/test_grpo_trainer.py.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from trl.trainer import utils

from trainer.patches.replacing import replaced


def completions_only() -> AbstractContextManager[None]:
    """Drop masked positions on every device while TRL computes log-probabilities."""
    return replaced(utils, "_use_triton", lambda device: True)
