"""Intervals, tests and sampling estimators for fair comparisons. Pure functions of arrays; torch-free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, t
from statsmodels.stats.multitest import multipletests

LEVEL = 0.95
RESAMPLES = 2000
SMALLEST_P = 1e-30
Scores = NDArray[np.floating]
"""Scores by seed and item, shape (seeds, items); 1.0 is right."""


Images = Sequence[int] | Sequence[str]
"""Identifies each item's image."""


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a proportion (Wilson 1927); (0, 1) if n is 0."""
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the exact two-sided p of McNemar's test, from the numbers of items that only one checkpoint got right."""
    discordant = first_only + second_only
    return float(binomtest(first_only, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for multiple comparisons (Holm 1979), in the given order."""
    return multipletests(p_values, method="holm")[1].tolist() if p_values else []


def cohens_h(first: float, second: float) -> float:
    """Return the effect size of the difference between two proportions (Cohen 1988); 0.2 is small, 0.8 is large."""
    one, other = (2 * np.arcsin(np.sqrt(share)) for share in (first, second))
    return float(one - other)


def mean(scores: Scores, images: Images) -> Estimate:
    """Return the mean of `scores` (seeds, items) with an interval over images, and over seeds if there are several.

    `images` identifies each item's image: questions about one image are resampled together.
    """
    return _estimate(scores, np.zeros((1, scores.shape[1])), images)


def over_seeds(values: Sequence[float], *, share: bool = False) -> Estimate | None:
    """Return the mean of one value per seed with Student's 95 % interval; None for fewer than two seeds.

    The interval of a `share` is cut off at 0 and 1, which excludes only values that the mean cannot have.
    """
    if len(values) < 2:
        return None
    each = np.asarray(values, float)
    half = float(t.isf((1 - LEVEL) / 2, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
    mean = float(each.mean())
    low, high = (mean - half, mean + half) if not share else (max(0.0, mean - half), min(1.0, mean + half))
    return Estimate(mean, low, high)


def seeds_differ_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the two-sided p of Welch's t-test between two settings with one value per seed.

    Return None if a side has fewer than two seeds, or if neither side varies.
    """
    if min(len(first), len(second)) < 2:
        return None
    one, other = (np.asarray(side, float)[:, None] for side in (first, second))
    return _spread(one, other, np.zeros(2)).p(float(one.mean() - other.mean()))


def difference(first: Scores, second: Scores, images: Images) -> Estimate:
    """Return mean of `first` minus mean of `second` on the same items, with an interval over images and seeds.

    With one seed per side, the interval has the percentiles of a paired bootstrap over images. With several, it is
    Welch's interval over seeds, widened by the spread of that bootstrap (`_Spread`). Both arrays are (seeds, items),
    with as many items as `images`, which identifies each item's image.
    """
    return _estimate(first, second, images)


def difference_p(first: Scores, second: Scores, images: Images) -> float | None:
    """Return the two-sided p of `difference` for several seeds per side; < 0.05 if and only if its interval excludes 0.

    This is Welch's t-test if images add no variance of their own. Return None if neither seeds nor images differ.
    """
    return _spread(first, second, _resampled_differences(first, second, images)).p(float(first.mean() - second.mean()))


def _estimate(first: Scores, second: Scores, images: Images) -> Estimate:
    value = float(first.mean() - second.mean())
    resampled = _resampled_differences(first, second, images)
    if len(first) == len(second) == 1:
        low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    else:
        half = _spread(first, second, resampled).half_width(1 - LEVEL)
        low, high = value - half, value + half
    low, high = np.clip([low, high], first.min() - second.max(), first.max() - second.min())
    return Estimate(value, float(low), float(high))


def _resampled_differences(first: Scores, second: Scores, images: Images) -> Scores:
    """Return the difference of the means over resampled images, the same images for both: shape (resamples,)."""
    rng = np.random.default_rng(0)
    _, place = np.unique(np.asarray(images), return_inverse=True)
    n = int(place.max()) + 1
    # Count how often each image is drawn in each resample; far faster than as many multinomial draws.
    places = rng.integers(n, size=(RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
    drawn = np.bincount(places.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n)
    per_image = np.bincount(place, weights=first.mean(axis=0) - second.mean(axis=0))
    differences: Scores = (drawn @ per_image) / (drawn @ np.bincount(place))
    return differences


class _Spread(NamedTuple):
    """The uncertainty of a difference: standard errors over seeds and over images, whose variances add up.

    Each error has its own quantile, so that the interval is never narrower than Welch's over seeds alone, no matter how
    few there are (Zou and Donner 2008, "Construction of confidence limits about effect measures: a general approach").
    """

    seeds: float
    freedom: float
    """Degrees of freedom of the error over seeds, by Welch and Satterthwaite."""
    images: float

    def half_width(self, alpha: float) -> float:
        """Return half the width of the interval at significance level `alpha`."""
        of_seeds = t.isf(alpha / 2, self.freedom) * self.seeds if self.seeds else 0.0
        return float(np.hypot(of_seeds, norm.isf(alpha / 2) * self.images))

    def p(self, value: float) -> float | None:
        """Return the `alpha` at which the interval around `value` just touches zero."""
        if self.seeds == self.images == 0:
            return None
        if abs(value) >= self.half_width(SMALLEST_P):
            return 0.0
        # Solve for the logarithm, because p may be very small.
        log_p = brentq(lambda power: self.half_width(np.exp(power)) - abs(value), np.log(SMALLEST_P), 0.0)
        return float(np.exp(log_p))


def _spread(first: Scores, second: Scores, resampled: Scores) -> _Spread:
    several = [side.mean(axis=1) for side in (first, second) if len(side) > 1]
    variances = [float(means.var(ddof=1)) / len(means) for means in several]
    total = sum(variances)
    shares = sum(v**2 / (len(means) - 1) for v, means in zip(variances, several, strict=True))
    # Ignore rounding errors.
    over_seeds, over_images = np.round([np.sqrt(total), resampled.std(ddof=1)], 12).tolist()
    return _Spread(over_seeds, total**2 / shares if shares else 1.0, over_images)


def pass_at_k(n: int, right: int, k: int) -> float:
    """Return an unbiased estimate of the probability that one of k samples is right, given `right` of n >= k samples.

    Chen et al. 2021, "Evaluating Large Language Models Trained on Code", arXiv 2107.03374, section 2.1.
    """
    return float(1 - np.prod(1 - k / np.arange(n - right + 1, n + 1))) if n - right >= k else 1.0


def majority_at_k(answers: Sequence[int | None], truth: int, k: int) -> float:
    """Return the share of k-subsets of answers whose most frequent answer is the truth. Unbiased, like `pass_at_k`.

    In a tie, the truth gets its share, such as 1/2 of two. None does not vote.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    right = votes.pop(truth, 0)
    return _majority(right, tuple(sorted(votes.values())), len(answers) - right - votes.total(), k)


@lru_cache(maxsize=4096)
def _majority(right: int, rivals: tuple[int, ...], silent: int, k: int) -> float:
    """Return that share from counts: of the true answer, of each other answer, and of missing answers."""
    won = Fraction(0)
    for votes in range(1, min(right, k) + 1):
        rest = k - votes
        # Number of draws by (answers drawn from rivals, rivals with as many votes as the truth).
        ways = {(0, 0): comb(right, votes)}
        for count in rivals:
            ways = _with_rival(ways, count, votes, rest)
        for (drawn, equals), number in ways.items():
            won += Fraction(number * comb(silent, rest - drawn), equals + 1)
    return float(won / comb(right + sum(rivals) + silent, k))


def _with_rival(ways: dict[tuple[int, int], int], count: int, votes: int, rest: int) -> dict[tuple[int, int], int]:
    combined: dict[tuple[int, int], int] = {}
    for (drawn, equals), number in ways.items():
        for rival_votes in range(min(count, votes, rest - drawn) + 1):
            key = (drawn + rival_votes, equals + (rival_votes == votes))
            combined[key] = combined.get(key, 0) + number * comb(count, rival_votes)
    return combined
