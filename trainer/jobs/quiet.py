"""Keep advice for the makers of libraries out of terminals and logs."""

from __future__ import annotations

import warnings

from trainer.patches import quantized

# TRL and PEFT still use names that transformers 5.23 is about to rename.
RENAMED = r"`(is_)?gradient_checkpointing(_enable|_disable)?` is deprecated"


def keep_quiet() -> None:
    """Silence warnings that a user can do nothing about, in this process."""
    warnings.filterwarnings("ignore", RENAMED, FutureWarning)
    quantized.without_kernel_advice()
