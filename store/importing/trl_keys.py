"""Map the names under which TRL and transformers log metrics to the store's."""

from __future__ import annotations

NAMES = {
    "completions/mean_length": "completion_length",
    "completions/min_length": "completion_length_min",
    "completions/max_length": "completion_length_max",
    "completions/clipped_ratio": "clipped_share",
    "num_tokens": "tokens",
    "step_time": "time/step",
}
"""Names in the store by TRL's log key; other keys are kept."""
SKIPPED = ("epoch", "total_flos")


def metric_name(key: str) -> str:
    """Return a key's name in the store: `rewards/format/mean` becomes `reward/format`, and NAMES has others.

    TRL before 0.17 logs `rewards/format`, without a standard deviation.
    """
    if key.startswith("rewards/") and key.endswith("/mean"):
        return f"reward/{key[8:-5]}"
    if key.startswith("rewards/") and key.endswith("/std"):
        return f"reward/{key[8:-4]}/std"
    if key.startswith("rewards/"):
        return f"reward/{key[8:]}"
    return NAMES.get(key, key)
