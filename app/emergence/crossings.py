"""Levels of noisy curves with their errors, and the point where a curve permanently crosses a line. Pure functions.

A window is a sequence of consecutive steps: a tenth of all steps, but 10 to 50. NaN entries of a curve are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
ENOUGH = 40
"""Minimum number of steps for a statement."""
SURE = 4.0
"""Number of standard errors by which two levels must differ to count as different."""


class Level(NamedTuple):
    """The mean over a window and its standard error, which ignores a slope within the window."""

    mean: float
    error: float


def width(steps: int) -> int:
    """Return the width of a window, in steps."""
    return int(np.clip(steps // 10, 10, 50))


def level(curve: Floats, start: int, size: int) -> Level:
    """Return the level over `size` entries from `start` on; NaN if all are missing."""
    values = curve[start : start + size]
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return Level(float(values[0]) if len(values) else np.nan, np.inf)
    # Differences between neighbours contain the noise, but hardly any of the slope.
    noise = np.sqrt((np.diff(values) ** 2).mean() / 2)
    return Level(float(values.mean()), float(noise / np.sqrt(len(values))))


def forward_mean(curve: Floats, size: int) -> Floats:
    """Return at each i the mean of entries i to i + size - 1 (size - 1 fewer); NaN if all are missing."""
    if len(curve) < size:
        return np.empty(0)
    is_known = np.isfinite(curve)
    sums = np.concatenate([[0.0], np.cumsum(np.where(is_known, curve, 0.0))])
    counts = np.concatenate([[0], np.cumsum(is_known)])
    total, n = sums[size:] - sums[:-size], counts[size:] - counts[:-size]
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def first_crossing(curve: Floats, line: float, *, size: int, slack: float) -> int | None:
    """Return where the curve reaches `line`, in the first `size` entries from which means stay above `line - slack`.

    None if that never happens, or if it is true from the start. A rise shorter than `size` is placed where it happens,
    although the window begins before it.
    """
    means = forward_mean(curve, size)
    below = np.flatnonzero(means < line - slack)
    start = int(below[-1]) + 1 if len(below) else 0
    above = np.flatnonzero(means[start:] >= line)
    index = start + int(above[0]) if len(above) else None
    return index + first_at(curve[index:], line, size) if index else None


def first_at(curve: Floats, line: float, size: int) -> int:
    """Return the index among `size` entries from which `size // 4` entries first average at least `line`, else 0."""
    near = np.flatnonzero(forward_mean(curve, max(1, size // 4))[:size] >= line)
    return int(near[0]) if len(near) else 0


def has_risen(before: Level, after: Level, by: float) -> bool:
    """Return whether a level rose by at least `by`, and by more than noise explains."""
    gain = after.mean - before.mean
    return bool(gain >= by and gain > SURE * np.hypot(before.error, after.error))
