"""Describe for preflight and run whether a group's prompt is computed once, and the cost if it is not."""

from __future__ import annotations

from typing import Any

from trainer.fit import memory
from trainer.fit.memory import Workload
from trainer.patches import prefix_sharing
from trainer.spec.config import RunConfig


def in_words(config: RunConfig, described: Any, example: Workload) -> str:
    """Describe a GRPO run in one sentence; `described` is the configuration of the model's architecture."""
    group = config.grpo.group_size
    reason = prefix_sharing.refusal(described)
    if reason is not None:
        return (
            f"A group's prompt and images are computed {group} times, once per completion, because {reason}. "
            f"An update processes {times(config, example):.1f} times as many tokens."
        )
    if memory.shares_prompts(config, described):
        return f"A group's prompt and images are computed once for its {group} completions."
    if config.optimization.gradient_checkpointing:
        why = "optimization.gradient_checkpointing recomputes them"
    else:
        why = "a forward pass has a single completion"
    return f"A group's prompt is computed once for its {group} completions in generation; in the update {why}."


def times(config: RunConfig, example: Workload) -> float:
    """Return the ratio of an update's tokens without sharing to those with each prompt computed once."""
    alone = config.grpo.group_size * (example.tokens + config.max_tokens)
    return alone / (example.tokens + config.grpo.group_size * config.max_tokens)
