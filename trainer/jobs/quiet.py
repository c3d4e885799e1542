"""Silence warnings that are meant for developers of libraries."""

from __future__ import annotations

import warnings

from trainer.patches import quantized

# TRL and PEFT still use names that transformers 5.23 deprecates.
RENAMED = r"`(is_)?gradient_checkpointing(_enable|_disable)?` is deprecated"


def keep_quiet() -> None:
    """Silence warnings in this process about which users can do nothing."""
    warnings.filterwarnings("ignore", RENAMED, FutureWarning)
    quantized.without_kernel_advice()
