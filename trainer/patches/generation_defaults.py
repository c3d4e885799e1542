"""Generate without the generation defaults that a model's files recommend.

transformers fills every option that a GenerationConfig leaves unset from `model.generation_config`, so a model could
change the decoding of a run silently. `trainer.evaluate.decoding` sets what has to be set.

Read in transformers 5.23.0. Contract: tests/training/test_decoding.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig


@contextmanager
def without_defaults(model: Any) -> Iterator[None]:
    """Give a model, or the model below its adapter, an empty generation config within the block."""
    holder = base_of(model)
    defaults = holder.generation_config
    holder.generation_config = GenerationConfig()
    try:
        yield
    finally:
        holder.generation_config = defaults


def base_of(model: Any) -> Any:
    """Return the transformers model, also below an adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
