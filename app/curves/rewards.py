"""Rewards of runs with different weights under one definition: the most common weights. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from store.db.rows import Band, RunDetail

Weights = Mapping[str, float]


def definition(runs: Sequence[RunDetail]) -> Weights | None:
    """Return the most common weights of runs with different ones (ties: the oldest run's); None if all agree."""
    schemes = [
        tuple(sorted((name, weight) for name, weight in run.reward_weights.items() if weight))
        for run in sorted(runs, key=lambda run: run.id)
    ]
    counts = Counter(each for each in schemes if each)
    return dict(counts.most_common(1)[0][0]) if len(counts) > 1 else None


def weights_text(weights: Weights) -> str:
    """Return `1 × format + 0.5 × steps`."""
    return " + ".join(f"{weight:g} × {name}" for name, weight in weights.items())


def total(components: Mapping[str, Band], weights: Weights) -> Band:
    """Return the weighted sum of a run's components by their means; empty if one was not recorded.

    The extremes of a sum do not follow from those of its parts, so low and high are set to the mean.
    """
    parts = [(components[name], weight) for name, weight in weights.items()]
    if any(not len(part.step) for part, _ in parts):
        empty = np.empty(0)
        return Band(1, np.empty(0, np.int64), np.empty(0, np.int64), empty, empty, empty)
    one = parts[0][0]
    mean: npt.NDArray[np.float64] = np.zeros(len(one.step))
    for part, weight in parts:
        mean = mean + weight * np.interp(one.step, part.step, part.mean)
    return one._replace(low=mean, mean=mean, high=mean)
