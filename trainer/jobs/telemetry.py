"""Turn off telemetry of libraries, unless the user has set it."""

from __future__ import annotations

import os

OFF = {"HF_HUB_DISABLE_TELEMETRY": "1", "VLLM_NO_USAGE_STATS": "1"}
"""Variables that libraries read when imported. The first covers the hub (headers, its registry of agents) and TRL."""


def keep_off() -> None:
    """Set the variables for this process and its children, unless they are already set."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
