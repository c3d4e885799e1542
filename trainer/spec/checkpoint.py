"""Parse references to a run's checkpoint: `RUN:STEP`, `RUN:best`, `RUN:last` or `RUN:final`."""

from __future__ import annotations

import re
from typing import NamedTuple

NAMED = ("best", "last", "final")
_STEP = re.compile(r"[0-9]{1,10}")


class Reference(NamedTuple):
    """A run's uid or name, and a checkpoint of it; `checkpoint` is None if only the run is named."""

    run: str
    checkpoint: str | None

    @property
    def step(self) -> int | None:
        """The step of the checkpoint, if the reference names one."""
        return int(self.checkpoint) if self.checkpoint and _STEP.fullmatch(self.checkpoint) else None


def parse(reference: str) -> Reference:
    """Split a reference. What follows the last colon belongs to the name unless it names a checkpoint."""
    run, colon, name = reference.rpartition(":")
    return Reference(run, name) if colon and (name in NAMED or _STEP.fullmatch(name)) else Reference(reference, None)
