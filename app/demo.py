"""The two runs that show what this is: reasoning from reward alone, then imitation of the same task."""

from __future__ import annotations

from app import recorded
from store.db.engine import Store
from store.runs import list_run_heads
from trainer import launch
from trainer.spec import config

PRESETS = ("demo-grpo", "demo-sft")


def start_once(store: Store) -> str:
    """Queue the demo runs unless there are runs of one's own; say what was done. Raises ConfigError."""
    if not all(map(recorded.is_recorded, list_run_heads(store))):
        return "There are runs already: the demo is for an empty database."
    for name in PRESETS:
        launch.submit(store, config.preset(name))
    return "The demo has begun: GRPO and SFT."
