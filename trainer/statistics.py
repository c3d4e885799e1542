"""Intervals, tests and sampling estimators of a fair comparison. Pure functions of arrays.

Torch-free: the dashboard imports it. Knows nothing of runs, models or databases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, t, ttest_ind
from statsmodels.stats.multitest import multipletests

LEVEL = 0.95
RESAMPLES = 2000
Scores = NDArray[np.floating]
"""Shape (seeds, items): what each seed scored on each item, 1.0 where it is right."""


Images = Sequence[int] | Sequence[str]
"""What names the image of each item."""


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) when n is 0."""
    if n == 0:
        return 0.0, 1.0
    found = binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p of McNemar's test, from the items that only one of two checkpoints has right."""
    discordant = first_only + second_only
    return float(binomtest(first_only, discordant).pvalue) if discordant else 1.0


def welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p of Welch's t-test on one score a seed; None where no seed differs from another of its method."""
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return None
    return float(ttest_ind(first, second, equal_var=False).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for each other (Holm 1979), in their order."""
    return multipletests(p_values, method="holm")[1].tolist() if p_values else []


def mean(scores: Scores, images: Images) -> Estimate:
    """Mean of `scores` (seeds, items) with a bootstrap interval over images, and over seeds if there are several.

    `images` names each item's image: questions about one image are drawn together.
    """
    return _estimate(scores, np.zeros((1, scores.shape[1])), images)


def difference(first: Scores, second: Scores, images: Images) -> Estimate:
    """Mean of `first` minus mean of `second` on the same items, with a paired bootstrap interval.

    Every resample draws images, the same for both, and seeds of each where it has several; how far these lie from
    their mean is stretched as Student's t is, since resampling a few seeds understates how much seeds differ. Both
    arrays are (seeds, items), with as many items as `images`, which names each item's image.
    """
    return _estimate(first, second, images)


def _estimate(first: Scores, second: Scores, images: Images) -> Estimate:
    rng = np.random.default_rng(0)
    _, place = np.unique(np.asarray(images), return_inverse=True)
    n = int(place.max()) + 1
    # How often each image is drawn in each resample; far faster than as many multinomial draws.
    places = rng.integers(n, size=(RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
    drawn = np.bincount(places.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n)
    items = drawn @ np.bincount(place)
    freedom = len(first) + len(second) - 2
    means = [_resampled(rng, drawn, each, place, freedom) / items for each in (first, second)]
    bounds = np.quantile(means[0] - means[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = np.clip(bounds, first.min() - second.max(), first.max() - second.min())
    return Estimate(float(first.mean() - second.mean()), float(low), float(high))


def _resampled(
    rng: np.random.Generator, drawn: NDArray[np.integer], scores: Scores, place: NDArray[np.integer], freedom: int
) -> Scores:
    """Sums over the drawn images, as means over drawn seeds: shape (resamples,)."""
    seeds = len(scores)
    by_image = np.stack([np.bincount(place, weights=row) for row in scores])
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=len(drawn)) / seeds
    if seeds > 1:
        stretch = np.sqrt(seeds / (seeds - 1)) * t.ppf((1 + LEVEL) / 2, freedom) / norm.ppf((1 + LEVEL) / 2)
        weights = 1 / seeds + stretch * (weights - 1 / seeds)
    return ((drawn @ by_image.T) * weights).sum(axis=1)


def pass_at_k(n: int, right: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k samples is right, from n >= k of which `right` are.

    Chen et al. 2021, "Evaluating Large Language Models Trained on Code", arXiv 2107.03374, section 2.1.
    """
    return float(1 - np.prod(1 - k / np.arange(n - right + 1, n + 1))) if n - right >= k else 1.0


def majority_at_k(answers: Sequence[int | None], truth: int, k: int) -> float:
    """Mean over all subsets of k answers of: is the most frequent answer the truth? Unbiased, as `pass_at_k` is.

    Where several answers are equally frequent, the truth has its share of them; None does not vote.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    right = votes.pop(truth, 0)
    return _majority(right, tuple(sorted(votes.values())), len(answers) - right - votes.total(), k)


@lru_cache(maxsize=4096)
def _majority(right: int, rivals: tuple[int, ...], silent: int, k: int) -> float:
    """From how many answers are the truth, each of the other answers, and none."""
    won = Fraction(0)
    for votes in range(1, min(right, k) + 1):
        rest = k - votes
        # (answers drawn of the rivals, rivals with as many votes as the truth) to the number of such draws.
        ways = {(0, 0): comb(right, votes)}
        for count in rivals:
            ways = _with_rival(ways, count, votes, rest)
        for (drawn, equals), number in ways.items():
            won += Fraction(number * comb(silent, rest - drawn), equals + 1)
    return float(won / comb(right + sum(rivals) + silent, k))


def _with_rival(ways: dict[tuple[int, int], int], count: int, votes: int, rest: int) -> dict[tuple[int, int], int]:
    found: dict[tuple[int, int], int] = {}
    for (drawn, equals), number in ways.items():
        for own in range(min(count, votes, rest - drawn) + 1):
            key = (drawn + own, equals + (own == votes))
            found[key] = found.get(key, 0) + number * comb(count, own)
    return found
