"""Train adapters on a base that bitsandbytes has quantized.

Read in bitsandbytes 0.50.2 and TRL 1.16.0. Contract: tests/training/patches/test_quantized.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any


def keep_packing(layers: Iterable[Any]) -> None:
    """Keep the packing of 4-bit layers' weights.

    On CPUs with AVX-512 BF16, `Linear4bit.forward` repacks them when the model first generates, for a kernel without
    gradients.
    """
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False


def without_kernel_advice() -> None:
    """Silence bitsandbytes' advice to install that kernel, which would otherwise be in every log."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def adapter_in_float32(model: Any) -> bool:
    """Undo TRL's cast of a quantized base's adapter to bfloat16; return whether there was one.

    At usual learning rates, a step of AdamW is smaller than the spacing of bfloat16 numbers, so most weights would
    never change. Call this before the optimizer is created, and load the weights again, because the cast has rounded
    them.
    """
    import torch

    cast = [p for p in model.parameters() if p.requires_grad and p.dtype != torch.float32]
    for parameter in cast:
        parameter.data = parameter.data.float()
    return bool(cast)
