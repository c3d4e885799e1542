"""Runs whose curves are known, with the noise of 64 completions a step: for tests of milestones and findings."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from store.completions.emergence import Emergence, of_figures

N, GROUPS = 64, 8
HEALTHY: dict[str, ArrayLike] = {
    "wellformed": 0.6,
    "stepped": 0.3,
    "right": 0.5,
    "over": 0.05,
    "excess": -0.1,
    "several": 0.02,
    "tokens": 40.0,
    "same": 0.0,
    "wrong": 0.05,
}
"""Level of each curve where a test says nothing else. `same` is the share of completions that answer 7 whatever is
asked, `wrong` that of the groups that are dead and wrong."""


def run(steps: int, *, seed: int = 0, **curves: ArrayLike) -> Emergence:
    """A run of so many steps; each curve is a level or one value a step."""
    rng = np.random.default_rng(seed)
    levels = {name: np.broadcast_to(np.asarray(level, float), steps) for name, level in (HEALTHY | curves).items()}
    each = [_figures(rng, {name: float(level[i]) for name, level in levels.items()}) for i in range(steps)]
    return of_figures(list(range(1, steps + 1)), each)


def ramp(steps: int, start: int, end: int, low: float, high: float) -> np.ndarray:
    """From `low` to `high` between two steps."""
    return np.interp(np.arange(steps), [start, end], [low, high])


def _figures(rng: np.random.Generator, level: dict[str, float]) -> dict[str, Any]:
    wellformed = int(rng.binomial(N, level["wellformed"]))
    truths = rng.integers(0, 10, N)
    answers = np.where(rng.random(N) < level["same"], 7, truths)
    dead = int(rng.binomial(GROUPS, level["wrong"]))
    listed = max(0.0, 4.5 * wellformed + level["excess"] * wellformed + rng.normal(0, 1.5) * np.sqrt(wellformed))
    return {
        "n": N,
        "wellformed": wellformed,
        "truncated": 0,
        "judged": N,
        "right": int(rng.binomial(N, level["right"])),
        "stepped": int(rng.binomial(N, level["stepped"])),
        "several": int(rng.binomial(N, level["several"])),
        "distinct": 20,
        "compared": wellformed,
        "over": int(rng.binomial(wellformed, level["over"])),
        "listed": listed,
        "true": 4.5 * wellformed,
        "variance": 1.0,
        "reasoning_steps": {4: N},
        "tokens": dict(Counter(int(length) for length in rng.normal(level["tokens"], 5.0, N).clip(1))),
        "answers": dict(Counter(answers.tolist())),
        "truths": dict(Counter(truths.tolist())),
        "groups": {"accuracy": GROUPS - dead, "wrong": dead},
        "covariance": {"accuracy": 0.5, "format": 0.5},
    }
