"""Statistics against values computed by hand and against second implementations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, ttest_ind
from statsmodels.stats.contingency_tables import mcnemar as other_mcnemar
from statsmodels.stats.proportion import proportion_confint

from trainer.spec import statistics


def test_wilson_by_hand() -> None:
    """8 of 10 by Wilson's formula with z = 1.96."""
    z, p, n = 1.959964, 0.8, 10
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert statistics.wilson(8, 10) == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert statistics.wilson(0, 0) == (0.0, 1.0)
    assert statistics.wilson(0, 5)[0] == 0.0


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_against_statsmodels(successes: int, n: int) -> None:
    successes = min(successes, n)
    expected = proportion_confint(successes, n, method="wilson")
    assert statistics.wilson(successes, n) == pytest.approx(expected, abs=1e-9)


def test_mcnemar_by_hand() -> None:
    """One against seven: 2 · (1 + 8) / 2^8."""
    assert statistics.mcnemar(1, 7) == pytest.approx(18 / 256)
    assert statistics.mcnemar(7, 1) == pytest.approx(18 / 256)
    assert statistics.mcnemar(0, 0) == 1.0


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_against_statsmodels(first: int, second: int) -> None:
    if first + second:
        expected = other_mcnemar([[5, first], [second, 3]], exact=True).pvalue
        assert statistics.mcnemar(first, second) == pytest.approx(min(1.0, expected), abs=1e-9)


def test_holm_by_hand() -> None:
    """0.01 · 4, then 0.02 · 3, then 0.03 · 2, then 0.04, each at least the one before."""
    assert statistics.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert statistics.holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert statistics.holm([]) == []


def test_the_bootstrap_of_two_checkpoints_agrees_with_scipy() -> None:
    rng = np.random.default_rng(5)
    first, second = (rng.random(300) < 0.7).astype(float), (rng.random(300) < 0.6).astype(float)
    found = statistics.difference(first[None], second[None], range(300))
    expected = bootstrap((first - second,), np.mean, method="percentile", rng=rng).confidence_interval
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_questions_of_one_image_are_drawn_together() -> None:
    """Ten equal questions an image carry the information of one: the interval is about sqrt(10) times as wide."""
    rng = np.random.default_rng(6)
    per_image = (rng.random(60) < 0.5).astype(float)
    scores = np.repeat(per_image, 10)[None]
    apart = statistics.mean(scores, range(600))
    together = statistics.mean(scores, np.repeat(np.arange(60), 10).tolist())
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(sqrt(10), rel=0.1)
    alone = statistics.mean(per_image[None], range(60))
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))


def test_seeds_are_drawn_too() -> None:
    """Seeds that are right or wrong on everything: images say nothing, seeds all."""
    scores = np.array([[1.0] * 50, [1.0] * 50, [0.0] * 50])
    found = statistics.difference(scores, np.zeros((3, 50)), range(50))
    assert found.value == pytest.approx(2 / 3)
    assert (found.low, found.high) == pytest.approx((0.0, 1.0))


def clustered(rng: np.random.Generator, seeds: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Two methods, 0.1 apart, on 4 questions on each of 60 images: images differ in difficulty, seeds in skill."""
    difficulty = np.repeat(rng.normal(0, 0.15, 60), 4)
    skills = (rng.normal(0.65, spread, seeds), rng.normal(0.55, spread, seeds))
    first, second = ((rng.random((seeds, 240)) < skill[:, None] + difficulty).astype(float) for skill in skills)
    return first, second


@pytest.mark.parametrize(("seeds", "others"), [(3, 3), (3, 8), (8, 3), (2, 5)])
def test_where_images_say_nothing_interval_and_p_are_welchs(seeds: int, others: int) -> None:
    """Every image has the same score, so that only seeds differ."""
    rng = np.random.default_rng(8)
    for spread in (0.01, 0.05, 0.1):
        first, second = rng.normal(0.6, spread, seeds), rng.normal(0.5, 0.05, others)
        sides = (np.repeat(first[:, None], 30, axis=1), np.repeat(second[:, None], 30, axis=1))
        expected = ttest_ind(first, second, equal_var=False)
        bounds = np.clip(expected.confidence_interval(), first.min() - second.max(), first.max() - second.min())
        found = statistics.difference(*sides, range(30))
        assert (found.low, found.high) == pytest.approx(tuple(bounds), abs=1e-6)
        assert statistics.difference_p(*sides, range(30)) == pytest.approx(expected.pvalue, rel=1e-5)


def test_where_seeds_say_nothing_only_images_count() -> None:
    """Three seeds that answer alike know as much as one: the interval is that of a bootstrap over images."""
    rng = np.random.default_rng(11)
    first, second = ((rng.random(400) < share).astype(float) for share in (0.6, 0.5))
    alike = statistics.difference(np.stack([first] * 3), np.stack([second] * 3), range(400))
    alone = statistics.difference(first[None], second[None], range(400))
    assert (alike.low, alike.high) == pytest.approx((alone.low, alone.high), abs=0.01)


def test_no_difference_anywhere_has_no_p() -> None:
    same = np.full((3, 20), 0.5)
    assert statistics.difference_p(same, same, range(20)) is None
    assert statistics.difference_p(same + 0.1, same, range(20)) is None


def unequal(rng: np.random.Generator, seeds: tuple[int, int], spreads: tuple[float, float]) -> list[np.ndarray]:
    """Two methods of one mean on 40 images, whose seeds differ in number and in how much they differ."""
    difficulty = rng.normal(0, 0.15, 40)
    skills = [rng.normal(0.6, spread, n) for n, spread in zip(seeds, spreads, strict=True)]
    return [(rng.random((len(skill), 40)) < skill[:, None] + difficulty).astype(float) for skill in skills]


@pytest.mark.parametrize("seeds", [(3, 8), (8, 3), (3, 3), (2, 5)])
@pytest.mark.parametrize("spreads", [(0.15, 0.02), (0.02, 0.15), (0.1, 0.1)])
def test_with_unequal_seeds_the_interval_holds_and_p_agrees(
    seeds: tuple[int, int], spreads: tuple[float, float]
) -> None:
    rng = np.random.default_rng(12)
    held = 0
    for _ in range(100):
        sides = unequal(rng, seeds, spreads)
        found = statistics.difference(*sides, range(40))
        p = statistics.difference_p(*sides, range(40))
        assert p is not None
        assert (found.low > 0 or found.high < 0) == (p < 0.05)
        held += found.low <= 0 <= found.high
    # Of 100 intervals that miss 5 on the average, 11 miss once in a hundred times.
    assert held >= 89


@given(st.floats(0.001, 0.2), st.floats(0.001, 0.2), st.floats(1, 30), st.floats(-8, 8).filter(lambda e: abs(e) > 1e-3))
def test_p_is_the_level_at_which_the_interval_touches_zero(
    seeds: float, images: float, freedom: float, errors: float
) -> None:
    spread = statistics._Spread(seeds, freedom, images)
    value = errors * sqrt(seeds**2 + images**2)
    p = spread.p(value)
    assert p is not None and 0 < p < 1
    assert spread.half_width(p) == pytest.approx(abs(value), rel=1e-6)


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.05), (5, 0.05)])
def test_the_interval_holds_the_true_difference(seeds: int, spread: float) -> None:
    """95 of 100 times, but for chance. One seed speaks of its own skill only."""
    rng = np.random.default_rng(9)
    images = np.repeat(np.arange(60), 4).tolist()
    hits = 0
    for _ in range(200):
        _, low, high = statistics.difference(*clustered(rng, seeds, spread), images)
        hits += low <= 0.1 <= high
    assert hits >= 180


def test_the_same_scores_have_no_difference() -> None:
    scores = (np.random.default_rng(7).random((1, 80)) < 0.4).astype(float)
    assert statistics.difference(scores, scores, range(80)) == (0.0, 0.0, 0.0)


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(case: tuple[int, int, int]) -> None:
    n, right, k = case
    subsets = list(combinations([True] * right + [False] * (n - right), k))
    assert statistics.pass_at_k(n, right, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize(
    ("answers", "truth", "expected"),
    [
        ([3, 3, 4], 3, 1.0),
        ([3, 4, 4], 3, 0.0),
        ([3, 4], 3, 0.5),
        ([None, None, 3], 3, 1.0),
        ([None, None], 3, 0.0),
        ([None, 4], 3, 0.0),
    ],
)
def test_the_majority_of_answers(answers: list[int | None], truth: int, expected: float) -> None:
    assert statistics.majority_at_k(answers, truth, len(answers)) == expected


def majority_right(answers: Sequence[int | None], truth: int) -> float:
    votes = Counter(answer for answer in answers if answer is not None)
    winners = [answer for answer, count in votes.items() if count == max(votes.values())]
    return 1 / len(winners) if truth in winners else 0.0


@given(st.lists(st.sampled_from([None, 1, 2, 3, 4]), min_size=1, max_size=8), st.data())
def test_majority_at_k_is_the_mean_over_all_subsets(answers: list[int | None], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(answers)))
    expected = np.mean([majority_right(subset, 3) for subset in combinations(answers, k)])
    assert statistics.majority_at_k(answers, 3, k) == pytest.approx(expected)
