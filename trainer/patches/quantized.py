"""Train adapters on a base that bitsandbytes has quantized.

Read in bitsandbytes 0.50.2 and TRL 1.16.0. Contract: tests/training/patches/test_quantized.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any


def keep_packing(layers: Iterable[Any]) -> None:
    """Keep the weights of 4-bit layers as they are packed.

    On CPUs with AVX-512 BF16 `Linear4bit.forward` repacks them when the model first generates, for a kernel that has
    no gradients.
    """
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False


def without_kernel_advice() -> None:
    """Silence the advice of bitsandbytes' first import, in every log, to install that kernel."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def adapter_in_float32(model: Any) -> bool:
    """Undo TRL's cast of the adapter of a quantized base to bfloat16; return whether there was one.

    At the usual rates a step of AdamW is smaller than the distance of two such numbers, so most weights would never
    move. Call it before the optimizer is made; what the cast has rounded away must be loaded anew.
    """
    import torch

    cast = [p for p in model.parameters() if p.requires_grad and p.dtype != torch.float32]
    for parameter in cast:
        parameter.data = parameter.data.float()
    return bool(cast)
