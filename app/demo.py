"""The two runs that show what this is: reasoning from reward alone, then imitation of the same task."""

from __future__ import annotations

from store import read
from store.engine import Store
from trainer import config, launch

PRESETS = ("demo-grpo", "demo-sft")


def start_once(store: Store) -> str:
    """Queues the demo runs, one after the other, unless there are runs; says what it did. Raises ConfigError."""
    if read.runs(store):
        return "There are runs already: the demo is for an empty database."
    for name in PRESETS:
        launch.submit(store, config.preset(name))
    return "The demo has begun: GRPO first, then SFT."
