"""Store examples with their pictures."""

from __future__ import annotations

from collections.abc import Sequence

from store.db.engine import Store
from store.db.rows import ExampleRow
from store.examples import add_examples
from trainer.datasets.example import Example

EXAMPLES_AT_ONCE = 100


def store_examples(store: Store, examples: Sequence[Example]) -> list[int]:
    """Store the examples that are new, and return all database ids; few pictures are in memory at once."""
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
