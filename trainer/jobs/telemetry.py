"""What libraries would tell their makers of a run: nothing, unless whoever starts it says otherwise. Imports none."""

from __future__ import annotations

import os

OFF = {"HF_HUB_DISABLE_TELEMETRY": "1", "VLLM_NO_USAGE_STATS": "1"}
"""The first is the hub's (headers, its registry of agents) and TRL's. Each is read when its library is imported."""


def keep_off() -> None:
    """For this process and those that it starts; a variable that is set already stays as it is."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
