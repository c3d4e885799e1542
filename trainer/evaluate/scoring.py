"""Score texts with reward functions, for training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainer.datasets.example import Example
from trainer.spec.own_reward import await_values
from trainer.spec.rewards import Reward


def reward_columns(examples: Sequence[Example]) -> dict[str, list[Any]]:
    """Return the dataset columns that reward functions may read, with one entry per completion."""
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
    """Return every component's unweighted value for each text; `handed` builds arguments for the user's rewards."""
    columns = reward_columns(examples)
    by_trl = handed() if any(reward.is_own for reward in rewards) else {}
    values = {
        reward.name: await_values(reward.function(**by_trl))
        if reward.is_own
        else reward.function(list(texts), **columns)
        for reward in rewards
    }
    return [{name: column[i] for name, column in values.items()} for i in range(len(texts))]
