"""Do something every few seconds in a separate thread while a job works."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self


class Repeating:
    """Calls `look` every `every` seconds while entered; `look` must not raise.

    Each has its own thread, so that one that waits for a driver or a locked database does not delay others.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__.lower(), daemon=True)

    def look(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._every):
            self.look()
