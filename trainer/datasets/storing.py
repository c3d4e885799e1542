"""Store examples with their images."""

from __future__ import annotations

from collections.abc import Sequence

from store.db.engine import Store
from store.db.rows import ExampleRow
from store.examples import add_examples
from trainer.datasets.example import Example

EXAMPLES_AT_ONCE = 100


def store_examples(store: Store, examples: Sequence[Example]) -> list[int]:
    """Store new examples, and return the database ids of all; few images are in memory at a time."""
    ids: list[int] = []
    for first in range(0, len(examples), EXAMPLES_AT_ONCE):
        ids += add_examples(store, [_row(example) for example in examples[first : first + EXAMPLES_AT_ONCE]])
    return ids


def _row(example: Example) -> ExampleRow:
    return ExampleRow(
        dataset=example.dataset,
        split=example.split,
        key=example.key,
        question=example.question,
        answer=example.answer,
        reference=example.reference,
        difficulty=example.difficulty,
        meta=example.meta,
        images=tuple(picture.encoded() for picture in example.pictures),
    )
