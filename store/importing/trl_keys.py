"""The names that TRL and transformers log under, and those of the same metrics in the store."""

from __future__ import annotations

NAMES = {
    "completions/mean_length": "completion_length",
    "completions/min_length": "completion_length_min",
    "completions/max_length": "completion_length_max",
    "completions/clipped_ratio": "clipped_share",
    "num_tokens": "tokens",
    "step_time": "time/step",
}
"""TRL's log key to the name in the store; other keys keep their own."""
SKIPPED = ("epoch", "total_flos")


def metric_name(key: str) -> str:
    """`rewards/format/mean` becomes `reward/format`, other keys go by NAMES or keep their name.

    TRL before 0.17 logs `rewards/format` and no spread.
    """
    if key.startswith("rewards/") and key.endswith("/mean"):
        return f"reward/{key[8:-5]}"
    if key.startswith("rewards/") and key.endswith("/std"):
        return f"reward/{key[8:-4]}/std"
    if key.startswith("rewards/"):
        return f"reward/{key[8:]}"
    return NAMES.get(key, key)
