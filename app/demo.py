"""The demo: recorded runs to look at, and two runs that train the same way on this machine.

    python -m app.demo

Runs in a separate process, started by `python -m app --demo`. It imports the recorded runs while the server loads its
pages, and starts the two runs only afterwards, so that they do not delay the first page on a machine with few cores.
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
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the server's children too
    try:
        with closing(open_store()) as store:
            try:
                recorded.load(store)
            except StoreError as error:
                print(shown(f"The recorded experiment could not be imported. {error}"), file=sys.stderr)
            print(start_once(store), flush=True)
    except (StoreError, config.ConfigError) as error:
        print(shown(f"The demo could not be started. {error}"), file=sys.stderr)
        return 1
    return 0


def start_once(store: Store) -> str:
    """Queue the demo runs unless the user has runs; return what was done. Raises ConfigError."""
    if not all(map(recorded.is_recorded, list_run_heads(store))):
        return "The demo needs a database without runs of your own."
    for name in PRESETS:
        launch.submit(store, config.preset(name))
    return "Demo started: GRPO and SFT."


if __name__ == "__main__":
    sys.exit(main())
