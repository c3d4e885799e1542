"""Examples as the `datasets.Dataset` that TRL wants, each row made when it is asked for: no picture waits in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from trainer.examples.example import Example

Row = Callable[[int, Example], dict[str, Any]]
"""The columns beside `images` of the example with this index."""


def dataset(examples: Sequence[Example], row: Row) -> Dataset:
    """Return a row for each example: what `row` gives, and the column `images`."""
    return Dataset.from_dict({"example": range(len(examples))}).with_transform(_Transform(examples, row))


@dataclass(frozen=True)
class _Transform:
    examples: Sequence[Example]
    row: Row

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        """Return columns of the rows asked for; a group's copies of an example share its pictures."""
        wanted = batch["example"]
        images = {i: list(self.examples[i].images) for i in dict.fromkeys(wanted)}
        rows = [self.row(i, self.examples[i]) | {"images": images[i]} for i in wanted]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def __reduce__(self) -> tuple[Any, ...]:
        """For `datasets`, which pickles a transform to tell it from others: a whole set is too much for that."""
        return (_Transform, ((), len(self.examples)))
