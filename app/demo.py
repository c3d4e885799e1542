"""The two runs that show what this is: reasoning from reward alone, then imitation of the same task."""

from __future__ import annotations

from store.db.engine import Store
from store.runs import list_run_heads
from trainer import launch
from trainer.spec import config

PRESETS = ("demo-grpo", "demo-sft")


def start_once(store: Store) -> str:
    """Queues the demo runs, one after the other, unless there are runs; says what it did. Raises ConfigError."""
    if list_run_heads(store):
        return "There are runs already: the demo is for an empty database."
    for name in PRESETS:
        launch.submit(store, config.preset(name))
    return "The demo has begun: GRPO first, then SFT."
