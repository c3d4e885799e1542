"""Runs of a group as one curve: middle, band and number of runs at each place. Pure functions.

A run counts only between its first and its last value: it is never drawn on beyond them. Between two values it is taken
to lie on the straight line, so runs that were measured at other steps can be put together. Where fewer than two runs
are left there is no band.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
MOST = 400
"""Places of a group's curve."""
Spread = Literal[
    "mean ± standard error",
    "mean ± standard deviation",
    "mean, minimum to maximum",
    "median, middle half",
    "median, minimum to maximum",
]
SPREADS: dict[Spread, str] = {
    "mean ± standard error": "The band is the mean ± its standard error: how well the mean is known.",
    "mean ± standard deviation": "The band is the mean ± the standard deviation between runs.",
    "mean, minimum to maximum": "The band reaches from the lowest to the highest run.",
    "median, middle half": "The band holds the middle half of the runs (25th to 75th percentile).",
    "median, minimum to maximum": "The band reaches from the lowest to the highest run.",
}
"""What the line and the band of a group are, each with its explanation."""


class Points(NamedTuple):
    """A run's curve: places that rise, and a value at each."""

    x: Floats
    y: Floats


class Band(NamedTuple):
    """A group's curve; `n` is the number of runs behind each place, `low` and `high` are NaN where it is below 2."""

    x: Floats
    middle: Floats
    low: Floats
    high: Floats
    n: npt.NDArray[np.int64]


def known(points: Points) -> Points:
    """Return the points whose value is finite."""
    kept = np.isfinite(points.x) & np.isfinite(points.y)
    return Points(points.x[kept], points.y[kept])


def grid(curves: Sequence[Points], most: int = MOST) -> Floats:
    """Return all places of the curves if there are no more than `most`, else evenly spaced ones, the ends included."""
    places = np.unique(np.concatenate([curve.x for curve in curves])) if curves else np.empty(0)
    return places if len(places) <= most else np.linspace(places[0], places[-1], most)


def band(curves: Sequence[Points], spread: Spread) -> Band:
    """Return what a group's runs have in common; runs without any value do not count."""
    runs = [each for each in map(known, curves) if len(each.x)]
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
    """Return middle, low and high of each column, of which each has a finite value."""
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
    """Return the last place that all curves reach; None if one has no value."""
    ends = [each.x[-1] if len(each.x) else None for each in map(known, curves)]
    return None if not ends or None in ends else float(min(end for end in ends if end is not None))


def mean_until(points: Points, end: float) -> float:
    """Return the mean height of a curve from its first place to `end`, by its area; NaN if it begins later."""
    x, y = known(points)
    if not len(x) or x[0] > end:
        return float("nan")
    kept = x <= end
    x, y = np.append(x[kept], end), np.append(y[kept], np.interp(end, x, y))
    width = x[-1] - x[0]
    return float(np.trapezoid(y, x) / width) if width > 0 else float(y[0])
