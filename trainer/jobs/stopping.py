"""Handle requests to stop this process by a signal, by Ctrl-C or through the database.

The first request lets the step finish; a second, or level 2, ends the job at once; level 3 kills it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from trainer.spec.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class StopFlag:
    """The requested stop level as in `store.jobs.ask_stop`; 0 without a request."""

    level: int = 0
    signal: int = signal.SIGTERM
    """The signal that requested it, for the exit code."""
    _ignores_signals: bool = False

    @property
    def exit_code(self) -> int:
        return 128 + self.signal

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Set the flag on signals while entered. Use it only in the main thread."""
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def ask(self, level: int) -> None:
        """Handle a request from the database. Call it from any thread but the working one."""
        if level > self.level:
            self.level = level
            if level > 1:
                # On a cluster's node, there may be no other process to kill it.
                os.kill(os.getpid(), signal.SIGKILL if level > 2 else signal.SIGTERM)

    def ignore_signals(self) -> None:
        """Ignore signals from here on, because the job is being closed."""
        self._ignores_signals = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._ignores_signals:
            return
        again = self.level > 0
        self.level = max(1, self.level)
        self.signal = number
        if again:
            raise Stopped
        # A signal can interrupt print(), which is not reentrant.
        os.write(2, b"Stopping after this step; once more to stop at once.\n")
