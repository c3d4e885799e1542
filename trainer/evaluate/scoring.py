"""Score a text: its trace, its answer against the truth, its rewards.

One function serves training completions and evaluation predictions, so that `correct` means the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from store import trace
from store.db.rows import TraceFields
from store.trace import Form
from trainer.datasets.example import Example
from trainer.spec.own_reward import finished
from trainer.spec.rewards import Reward


def reward_columns(examples: Sequence[Example]) -> dict[str, list[Any]]:
    """Return the dataset columns that reward functions may read, one entry a completion."""
    return {
        "answer": [example.answer for example in examples],
        "reference": [example.reference for example in examples],
        "question": [example.question for example in examples],
    }


def score(
    texts: Sequence[str],
    examples: Sequence[Example],
    rewards: Sequence[Reward],
    handed: Callable[[], Mapping[str, Any]] = dict,
) -> list[dict[str, float | None]]:
    """Return every reward component's raw value for each text; `handed` builds the arguments of the user's rewards."""
    columns = reward_columns(examples)
    by_trl = handed() if any(reward.is_own for reward in rewards) else {}
    values = {
        reward.name: finished(reward.function(**by_trl)) if reward.is_own else reward.function(list(texts), **columns)
        for reward in rewards
    }
    return [{name: column[i] for name, column in values.items()} for i in range(len(texts))]


def weighted_sum(components: dict[str, float | None], weights: dict[str, float]) -> float | None:
    """Return the weighted sum over the components that have a value, or None if none has."""
    present = [weights[name] * value for name, value in components.items() if value is not None and name in weights]
    return sum(present) if present else None


def trace_fields(
    text: str,
    *,
    truth: int | None,
    style: Form,
    tokens: int,
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
        steps=parsed.counted_steps,
        tokens=tokens,
        truncated=truncated,
        reward=weighted_sum(components, weights),
        rewards=components,
    )
