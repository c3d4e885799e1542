"""Turn off what libraries report about a run to their makers, unless the user has decided otherwise."""

from __future__ import annotations

import os

OFF = {"HF_HUB_DISABLE_TELEMETRY": "1", "VLLM_NO_USAGE_STATS": "1"}
"""The first one covers the hub (headers, its registry of agents) and TRL. Libraries read them when imported."""


def keep_off() -> None:
    """Set the variables for this process and its children; those that are set already stay."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
