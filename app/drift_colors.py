"""Which colour a run has in figures of style drift. Knows nothing of what is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from app.figures import GREY, METHOD_STYLE, PALETTE
from store.rows import RunRow


def colors(runs: Sequence[RunRow]) -> dict[int, str]:
    """Run id to colour: the first run of a method has its method's, others take turns in the palette."""
    found: dict[int, str] = {}
    free = [color for color in PALETTE if color != GREY]
    for run in runs:
        own, _ = METHOD_STYLE.get(run.method, (GREY, "dot"))
        found[run.id] = own if own not in found.values() else free[len(found) % len(free)]
    return found
