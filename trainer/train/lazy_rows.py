"""Provide examples as the `datasets.Dataset` that TRL needs. Rows are made on request: no images stay in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from trainer.datasets.example import Example

Row = Callable[[int, Example], dict[str, Any]]
"""Returns the columns except `images` of an example and its index."""


def dataset(examples: Sequence[Example], row: Row) -> Dataset:
    """Return a dataset with one row per example: the columns of `row`, and `images`."""
    return Dataset.from_dict({"example": range(len(examples))}).with_transform(_Transform(examples, row))


@dataclass(frozen=True)
class _Transform:
    examples: Sequence[Example]
    row: Row

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        """Return columns of the requested rows; a group's copies of an example share its images."""
        indices = batch["example"]
        images = {i: list(self.examples[i].images) for i in dict.fromkeys(indices)}
        rows = [self.row(i, self.examples[i]) | {"images": images[i]} for i in indices]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without examples, because `datasets` pickles a transform only to distinguish it from others."""
        return (_Transform, ((), len(self.examples)))
