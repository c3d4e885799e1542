"""Write and read the columns that completions and predictions share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Row,
)

from store.db.rows import (
    TraceFields,
)
from store.db.schema import Completion, Example
from store.db.values import clean, finite

PAGE = 500
# The index sorts by the first two; the generation separates groups of older recorders with the same number.
WITHIN_STEP = (Completion.group, Completion.index, Completion.generation)
SPANS = ("think_start", "think_end", "answer_start", "answer_end")


def trace_columns(row: TraceFields) -> dict[str, Any]:
    """Return the columns that completions and predictions share."""
    think, answer = row.think or (None, None), row.answer_span or (None, None)
    return {
        "text": clean(row.text),
        "think_start": think[0],
        "think_end": think[1],
        "answer_start": answer[0],
        "answer_end": answer[1],
        "answer": row.answer,
        "wellformed": row.wellformed,
        "correct": row.correct,
        "reasoning_steps": row.reasoning_steps,
        "tokens": row.tokens,
        "truncated": row.truncated,
        "reward": finite(row.reward),
        "rewards": {clean(name): finite(value) for name, value in row.rewards.items()},
    }


def example_columns() -> tuple[Any, ...]:
    name = Example.dataset + "/" + Example.split + "/" + Example.key
    return name.label("example"), Example.answer.label("truth")


def trace_values(row: Row[Any]) -> dict[str, Any]:
    values = dict(row._mapping)
    think_start, think_end, answer_start, answer_end = (values.pop(name) for name in SPANS)
    values["think"] = None if think_start is None else (think_start, think_end)
    values["answer_span"] = None if answer_start is None else (answer_start, answer_end)
    return values
