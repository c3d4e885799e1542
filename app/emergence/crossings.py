"""Noisy curves over steps: levels with their errors, and when a curve has crossed a line for good. Pure functions.

A window is a run of neighbouring steps, a tenth of all, from 10 to 50; NaN entries of a curve are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
ENOUGH = 40
"""Steps below which nothing is said."""
SURE = 4.0
"""Standard errors by which two levels differ when they are said to differ."""


class Level(NamedTuple):
    """The mean over a window and its standard error, a slope within the window left aside."""

    mean: float
    error: float


def width(steps: int) -> int:
    """Steps in a window of a run of so many."""
    return int(np.clip(steps // 10, 10, 50))


def level(curve: Floats, start: int, size: int) -> Level:
    """Over `size` entries from `start` on; NaN where all are missing."""
    values = curve[start : start + size]
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return Level(float(values[0]) if len(values) else np.nan, np.inf)
    # From one entry to the next, noise shows and a slope hardly does.
    noise = np.sqrt((np.diff(values) ** 2).mean() / 2)
    return Level(float(values.mean()), float(noise / np.sqrt(len(values))))


def forward_mean(curve: Floats, size: int) -> Floats:
    """At i the mean of the entries i to i + size - 1; shorter than the curve by size - 1. NaN where all are missing."""
    if len(curve) < size:
        return np.empty(0)
    known = np.isfinite(curve)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, curve, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    total, n = sums[size:] - sums[:-size], counts[size:] - counts[:-size]
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def crossed(curve: Floats, line: float, *, size: int, slack: float) -> int | None:
    """The first entry from which the mean of the next `size` is at least `line`, and stays at least `line - slack`.

    None where that never came about, and where it was so from the start.
    """
    means = forward_mean(curve, size)
    below = np.flatnonzero(means < line - slack)
    start = int(below[-1]) + 1 if len(below) else 0
    above = np.flatnonzero(means[start:] >= line)
    found = start + int(above[0]) if len(above) else None
    return found or None


def rose(before: Level, after: Level, by: float) -> bool:
    """Whether a level rose by at least `by`, and by more than noise explains."""
    gain = after.mean - before.mean
    return bool(gain >= by and gain > SURE * np.hypot(before.error, after.error))
