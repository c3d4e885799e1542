"""Runs of a group as one curve: middle, band and number of runs at each position. Pure functions.

A run counts only between its first and its last value, without extrapolation. Values are interpolated linearly, so that
runs measured at different steps can be combined. There is no band where fewer than two runs remain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
MAX_POSITIONS = 400
"""Maximum number of points of a group's curve."""
Spread = Literal[
    "mean ± standard error",
    "mean ± standard deviation",
    "mean, minimum to maximum",
    "median, middle half",
    "median, minimum to maximum",
]
SPREADS: dict[Spread, str] = {
    "mean ± standard error": "Mean ± its standard error: how precisely the mean is known. Shares: cut off at 0 and 1.",
    "mean ± standard deviation": "Mean ± standard deviation between runs. Shares: cut off at 0 and 1.",
    "mean, minimum to maximum": "Minimum to maximum: from the lowest to the highest run.",
    "median, middle half": "Middle half: 25th to 75th percentile of the runs.",
    "median, minimum to maximum": "Minimum to maximum: from the lowest to the highest run.",
}
"""Choices for a group's line and band, with explanations."""


class Points(NamedTuple):
    """A run's curve: increasing positions, with a value at each."""

    x: Floats
    y: Floats


class Band(NamedTuple):
    """A group's curve; `n` is the number of runs at each point, `low` and `high` are NaN where it is below 2."""

    x: Floats
    middle: Floats
    low: Floats
    high: Floats
    n: npt.NDArray[np.int64]


def finite_points(points: Points) -> Points:
    """Return the points with finite values."""
    is_finite = np.isfinite(points.x) & np.isfinite(points.y)
    return Points(points.x[is_finite], points.y[is_finite])


def grid(curves: Sequence[Points], limit: int = MAX_POSITIONS) -> Floats:
    """Return all positions of the curves if there are at most `limit`, else evenly spaced ones including the ends."""
    places = np.unique(np.concatenate([curve.x for curve in curves])) if curves else np.empty(0)
    return places if len(places) <= limit else np.linspace(places[0], places[-1], limit)


def band(curves: Sequence[Points], spread: Spread) -> Band:
    """Return the curve of a group; runs without values do not count."""
    runs = [each for each in map(finite_points, curves) if len(each.x)]
    x = grid(runs)
    if not len(x):
        return Band(x, x, x, x, np.empty(0, np.int64))
    values = np.array([np.interp(x, run.x, run.y, left=np.nan, right=np.nan) for run in runs])
    n = np.isfinite(values).sum(axis=0)
    values, x, n = values[:, n > 0], x[n > 0], n[n > 0]
    middle, low, high = _spread(values, n, spread)
    alone = n < 2
    return Band(x, middle, np.where(alone, np.nan, low), np.where(alone, np.nan, high), n)


def _spread(values: Floats, n: npt.NDArray[np.int64], spread: Spread) -> tuple[Floats, Floats, Floats]:
    """Return middle, low and high of each column; every column must have a finite value."""
    middle = np.nanmedian(values, axis=0) if spread.startswith("median") else np.nanmean(values, axis=0)
    if spread.endswith("minimum to maximum"):
        return middle, np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    if spread == "median, middle half":
        low, high = np.nanquantile(values, (0.25, 0.75), axis=0)
        return middle, low, high
    squares = np.nansum((values - middle) ** 2, axis=0)
    width = np.sqrt(squares / np.maximum(n - 1, 1))
    if spread == "mean ± standard error":
        width = width / np.sqrt(n)
    return middle, middle - width, middle + width


def common_end(curves: Sequence[Points]) -> float | None:
    """Return the last position that all curves reach; None if one has no values."""
    ends = [each.x[-1] if len(each.x) else None for each in map(finite_points, curves)]
    return None if not ends or None in ends else float(min(end for end in ends if end is not None))


def mean_until(points: Points, end: float) -> float:
    """Return a curve's mean from its first position to `end`, by its area; NaN if it begins later."""
    x, y = finite_points(points)
    if not len(x) or x[0] > end:
        return float("nan")
    is_before_end = x <= end
    x, y = np.append(x[is_before_end], end), np.append(y[is_before_end], np.interp(end, x, y))
    width = x[-1] - x[0]
    return float(np.trapezoid(y, x) / width) if width > 0 else float(y[0])
