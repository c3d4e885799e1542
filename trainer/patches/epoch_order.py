"""Make the order of examples depend on the epoch.

TRL's RepeatSampler draws the order of the next epoch from its own generator, which is not in checkpoints: after a
resume it would begin with the order of the first epoch again.

Read in TRL 1.16.0. Contract: tests/training/patches/test_grpo_trainer.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import Sampler


class ByEpoch(Sampler[int]):
    """TRL's sampler, set to the order of the epoch that `epoch` returns (from 0)."""

    def __init__(self, sampler: Any, epoch: Callable[[], int]) -> None:
        self.sampler, self.epoch = sampler, epoch

    def __iter__(self) -> Iterator[int]:
        self.sampler.generator.manual_seed(self.sampler.seed)
        for _ in range(self.epoch()):
            torch.randperm(self.sampler.num_samples, generator=self.sampler.generator)
        yield from self.sampler

    def __len__(self) -> int:
        return len(self.sampler)
