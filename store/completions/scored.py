"""Combine a text with the result of parsing it and its rewards.

Training completions and evaluation predictions share this function, so that `correct` means the same for both.
"""

from __future__ import annotations

from store import trace
from store.db.rows import TraceFields
from store.trace import Form


def weighted_sum(components: dict[str, float | None], weights: dict[str, float]) -> float | None:
    """Return the weighted sum over components with a value; None if there are none."""
    present = [weights[name] * value for name, value in components.items() if value is not None and name in weights]
    return sum(present) if present else None


def trace_fields(
    text: str,
    *,
    truth: int | None,
    style: Form,
    tokens: int | None,
    truncated: bool,
    components: dict[str, float | None],
    weights: dict[str, float],
) -> TraceFields:
    parsed = trace.parse(text, style)
    return TraceFields(
        text=text,
        think=parsed.think,
        answer_span=parsed.answer_span,
        answer=parsed.answer,
        wellformed=parsed.wellformed,
        correct=None if truth is None or style == "none" else parsed.answer == truth,
        reasoning_steps=parsed.counted_steps,
        tokens=tokens,
        truncated=truncated,
        reward=weighted_sum(components, weights),
        rewards=components,
    )
