"""The two runs that show what this is: reasoning from reward alone, then imitation of the same task."""

from __future__ import annotations

from store import read
from store.engine import Store
from trainer import config, launch

PRESETS = ("demo-grpo", "demo-sft")


def start_once(store: Store) -> bool:
    """Queues the demo runs, one after the other; does nothing if there are runs already."""
    if read.runs(store):
        return False
    for name in PRESETS:
        launch.submit(store, config.preset(name))
    return True
