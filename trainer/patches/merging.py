"""Merge an adapter into the base's weights while the model only generates.

PEFT computes three matrix products per projection and token instead of one. It reverts a merge by subtraction, which
leaves rounding errors in the base; here, the base's weights are kept and restored.

Read in PEFT 0.21.2. Contract: tests/training/patches/test_merging.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear, LoraLayer


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """Merge the active adapter, if any, within the block; afterwards the weights are the same tensors as before.

    This is done only in float32. In bfloat16 or quantized weights, a small adapter would be lost by rounding, and
    completions would not be sampled from the policy that is trained.
    """
    layers = [module for module in model.modules() if isinstance(module, LoraLayer) and not module.disable_adapters]
    exact = all(type(layer) is Linear and layer.get_base_layer().weight.dtype == torch.float32 for layer in layers)
    saved = [(layer, layer.get_base_layer().weight.data) for layer in layers if exact]
    try:
        for layer, weight in saved:
            layer.get_base_layer().weight.data = weight.clone()
            layer.merge()
        yield
    finally:
        for layer, weight in saved:
            layer.merged_adapters.clear()
            layer.get_base_layer().weight.data = weight
