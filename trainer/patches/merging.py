"""Hold an adapter merged into the base's weights while the model only generates.

PEFT computes three products for every projection of every token where one would do. Its own way back from a merge
subtracts, which leaves rounding errors in the base; here the base's weights are kept aside and put back.

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
    """Merge the active adapter, if there is one; afterwards the weights are the same tensors as before.

    Only in float32. Merged into weights of bfloat16, or into quantized ones, a small adapter would be rounded away, and
    other completions sampled than those of the policy that is trained.
    """
    layers = [module for module in model.modules() if isinstance(module, LoraLayer) and not module.disable_adapters]
    exact = all(type(layer) is Linear and layer.get_base_layer().weight.dtype == torch.float32 for layer in layers)
    kept = [(layer, layer.get_base_layer().weight.data) for layer in layers if exact]
    try:
        for layer, weight in kept:
            layer.get_base_layer().weight.data = weight.clone()
            layer.merge()
        yield
    finally:
        for layer, weight in kept:
            layer.merged_adapters.clear()
            layer.get_base_layer().weight.data = weight
