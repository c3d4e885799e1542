"""Make samples independent of the number of processes and of rows that leave the batch.

transformers draws each next token with `torch.multinomial` for the present rows. Here, noise is drawn for all rows of
the original batch on all processes, and each running row uses its own part of it.

Read in transformers 5.23.0 and torch 2.13.0. Contract: tests/training/patches/test_sampling.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from trainer.patches.replacing import replaced


@runtime_checkable
class OfRows(Protocol):
    """A logits processor with data for each row of the batch."""

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows of the present batch."""


@dataclass
class _Draws:
    """The state of drawing: this process's place among the processes, and how often it has drawn."""

    processes: int = 1
    index: int = 0
    count: int = 0
    noise: torch.Tensor = field(default_factory=lambda: torch.empty(0))


_draws = _Draws()


def draw(probabilities: torch.Tensor, rows: torch.Tensor, batch: int) -> torch.Tensor:
    """Draw a token for each of the remaining `rows` of a batch, as torch.multinomial does."""
    shape = (batch * _draws.processes, probabilities.shape[-1])
    noise = probabilities.new_empty(shape).exponential_(1)
    _draws.count, _draws.noise = _draws.count + 1, noise
    return (probabilities / noise[_draws.index * batch + rows]).argmax(-1)


@contextmanager
def as_one_process() -> Iterator[None]:
    """Draw noise for the rows of all processes within the block.

    All processes must sample the same number of rows with the same random state; those that end earlier continue to
    draw.
    """
    global _draws
    state = PartialState()
    if state.num_processes == 1:
        yield
        return
    before, _draws = _draws, _Draws(state.num_processes, state.process_index)
    try:
        with replaced(torch, "multinomial", _drawn_by_transformers):
            yield
        for _ in range(max(gather_object([_draws.count])) - _draws.count):
            _draws.noise.exponential_(1)
    finally:
        _draws = before


def _drawn_by_transformers(probabilities: torch.Tensor, num_samples: int, **_: object) -> torch.Tensor:
    """Replaces torch.multinomial in transformers' own decoding loop."""
    assert num_samples == 1
    rows = torch.arange(len(probabilities), device=probabilities.device)
    return draw(probabilities, rows, len(rows)).unsqueeze(-1)
