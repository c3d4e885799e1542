"""The demonstration: recorded runs to look at, and two runs that train the same way here.

    python -m app.demo

A process of its own, started by `python -m app --demo`: it takes the recorded runs in while the server loads its pages,
and starts the two runs only then, so that they do not hold up the first page on a machine with few cores.
"""

from __future__ import annotations

import signal
import sys
from contextlib import closing

from app import recorded
from store.db.engine import Store, StoreError, open_store
from store.runs import list_run_heads
from store.terminal import shown
from trainer import launch
from trainer.spec import config

PRESETS = ("demo-grpo", "demo-sft")


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the server's children, too
    try:
        with closing(open_store()) as store:
            try:
                recorded.load(store)
            except StoreError as error:
                print(shown(f"The recorded experiment cannot be shown. {error}"), file=sys.stderr)
            print(start_once(store), flush=True)
    except (StoreError, config.ConfigError) as error:
        print(shown(f"The demo cannot start. {error}"), file=sys.stderr)
        return 1
    return 0


def start_once(store: Store) -> str:
    """Queue the demo runs unless there are runs of one's own; say what was done. Raises ConfigError."""
    if not all(map(recorded.is_recorded, list_run_heads(store))):
        return "There are runs already: the demo is for an empty database."
    for name in PRESETS:
        launch.submit(store, config.preset(name))
    return "The demo has begun: GRPO and SFT."


if __name__ == "__main__":
    sys.exit(main())
