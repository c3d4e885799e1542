"""Describe whether a group's prompt is computed once, and what it costs if not, for preflight and the run."""

from __future__ import annotations

from typing import Any

from trainer.fit import memory
from trainer.fit.memory import Workload
from trainer.patches import prefix_sharing
from trainer.spec.config import RunConfig


def in_words(config: RunConfig, described: Any, example: Workload) -> str:
    """Return a sentence about a GRPO run; `described` is the configuration of the model's architecture."""
    group = config.grpo.group_size
    reason = prefix_sharing.refusal(described)
    if reason is not None:
        return (
            f"A group's prompt and pictures are computed {group} times, once for each completion, since {reason}: "
            f"an update goes through {times(config, example):.1f} times the tokens."
        )
    if memory.shares_prompts(config, described):
        return f"A group's prompt and pictures are computed once for its {group} completions."
    if config.optimization.gradient_checkpointing:
        why = "optimization.gradient_checkpointing recomputes them"
    else:
        why = "a pass holds a single completion"
    return f"A group's prompt is computed once for its {group} completions in generation; in the update {why}."


def times(config: RunConfig, example: Workload) -> float:
    """Return the tokens of an update without sharing, as a multiple of one that computes each prompt once."""
    alone = config.grpo.group_size * (example.tokens + config.max_tokens)
    return alone / (example.tokens + config.grpo.group_size * config.max_tokens)
