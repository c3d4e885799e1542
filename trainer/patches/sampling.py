"""Sample on several processes what one process with the whole batch would sample.

transformers draws each next token by `torch.multinomial` on each process alone. Here every process draws noise for the
rows of all and uses its own part of it.

Read in transformers 5.23.0 and torch 2.13.0. Contract: tests/training/patches/test_sampling.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from trainer.patches.replacing import replaced


@contextmanager
def as_one_process() -> Iterator[None]:
    """Draw noise for the rows of all processes while the block samples; a single process samples as torch does.

    Every process must sample as many rows, and have the same random state; those that end earlier draw on.
    """
    state = PartialState()
    if state.num_processes == 1:
        yield
        return
    draws, noise = 0, torch.empty(0)

    def draw(probabilities: torch.Tensor, num_samples: int, **_: Any) -> torch.Tensor:
        # As torch does it for one sample a row.
        assert num_samples == 1
        nonlocal draws, noise
        rows, draws = len(probabilities), draws + 1
        noise = torch.cat([torch.empty_like(probabilities)] * state.num_processes).exponential_(1)
        own = noise[state.process_index * rows : (state.process_index + 1) * rows]
        return (probabilities / own).argmax(-1, keepdim=True)

    with replaced(torch, "multinomial", draw):
        yield
    for _ in range(max(gather_object([draws])) - draws):
        noise.exponential_(1)
