"""The names under which TRL and transformers log, and the same metrics' names in the store."""

from __future__ import annotations

NAMES = {
    "completions/mean_length": "completion_length",
    "completions/min_length": "completion_length_min",
    "completions/max_length": "completion_length_max",
    "completions/clipped_ratio": "clipped_share",
    "num_tokens": "tokens",
    "step_time": "time/step",
}
"""Name in the store by TRL's log key; other keys keep their own."""
SKIPPED = ("epoch", "total_flos")


def metric_name(key: str) -> str:
    """Return a key's name in the store: `rewards/format/mean` becomes `reward/format`, others go by NAMES.

    TRL before 0.17 logs `rewards/format` and no standard deviation.
    """
    if key.startswith("rewards/") and key.endswith("/mean"):
        return f"reward/{key[8:-5]}"
    if key.startswith("rewards/") and key.endswith("/std"):
        return f"reward/{key[8:-4]}/std"
    if key.startswith("rewards/"):
        return f"reward/{key[8:]}"
    return NAMES.get(key, key)
