"""Metrics over the steps of a run, as arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Series(NamedTuple):
    """A metric over steps; `total` is its number of points in the database, of which this may be a selection."""

    step: NDArray[np.int64]
    value: NDArray[np.float64]
    """NaN where the trainer reported none."""
    total: int


class Band(NamedTuple):
    """A metric over ranges of `width` steps, with one entry per range that has known values.

    With a width of 1, these are the values themselves, and `low`, `mean` and `high` are equal.
    """

    width: int
    step: NDArray[np.int64]
    """First step of each range: a multiple of the width."""
    n: NDArray[np.int64]
    """Number of known values in each range."""
    low: NDArray[np.float64]
    mean: NDArray[np.float64]
    high: NDArray[np.float64]


class Clock(NamedTuple):
    """When each step was recorded, and the tokens seen until then (NaN if unknown)."""

    step: NDArray[np.int64]
    at: NDArray[np.float64]
    tokens: NDArray[np.float64]


class StepBounds(NamedTuple):
    """The range of steps that have completions."""

    first: int
    last: int
    count: int  # type: ignore[assignment]  # hides tuple.count
