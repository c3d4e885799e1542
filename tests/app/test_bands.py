"""Groups of runs as one curve: what a band is, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.curves.bands import SPREADS, Points, Spread, band, common_end, mean_until
from app.curves.numbers import outlier

ONES = Points(np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0, 1.0]))
THREES = Points(np.array([0.0, 2.0, 4.0]), np.array([3.0, 3.0, 3.0]))
FIVES = Points(np.array([0.0, 3.0]), np.array([5.0, 5.0]))


@pytest.mark.parametrize("spread", SPREADS)
def test_one_run_has_a_line_and_no_band(spread: Spread) -> None:
    found = band([ONES], spread)
    assert found.middle.tolist() == [1, 1, 1, 1] and found.n.tolist() == [1, 1, 1, 1]
    assert np.isnan(found.low).all() and np.isnan(found.high).all()


def test_runs_of_unequal_lengths_and_steps_count_as_far_as_they_go() -> None:
    found = band([ONES, THREES], "mean, minimum to maximum")
    assert found.x.tolist() == [0, 1, 2, 3, 4]
    assert found.n.tolist() == [2, 2, 2, 2, 1]
    assert found.middle.tolist() == [2, 2, 2, 2, 3]
    assert found.low.tolist()[:4] == [1, 1, 1, 1] and np.isnan(found.low[4])


def test_each_band_is_what_its_name_says() -> None:
    runs = [ONES, THREES, FIVES]
    at_one = {name: tuple(round(float(part[1]), 3) for part in band(runs, name)[1:4]) for name in SPREADS}
    assert at_one == {
        "mean ± standard error": (3, 3 - round(2 / 3**0.5, 3), 3 + round(2 / 3**0.5, 3)),
        "mean ± standard deviation": (3, 1, 5),
        "mean, minimum to maximum": (3, 1, 5),
        "median, middle half": (3, 2, 4),
        "median, minimum to maximum": (3, 1, 5),
    }


def test_missing_values_and_runs_without_any_do_not_count() -> None:
    gap = Points(np.array([0.0, 1.0, 2.0]), np.array([2.0, np.nan, 4.0]))
    nothing = Points(np.array([0.0]), np.array([np.nan]))
    assert band([gap, nothing], "mean ± standard error").n.max() == 1
    assert band([gap, ONES], "mean ± standard error").middle[1] == 2  # on the straight line between 2 and 4, and 1
    assert not len(band([nothing], "mean ± standard error").x)


FINITE = st.floats(-1e6, 1e6)
CURVES = st.lists(
    st.dictionaries(st.integers(0, 30).map(float), FINITE, min_size=1, max_size=12).map(
        lambda points: Points(np.array(sorted(points)), np.array([points[x] for x in sorted(points)]))
    ),
    min_size=1,
    max_size=6,
)


@given(CURVES, st.sampled_from(list(SPREADS)))
def test_a_band_surrounds_its_line_and_stays_where_runs_are(curves: list[Points], spread: Spread) -> None:
    found = band(curves, spread)
    assert (np.diff(found.x) > 0).all() and found.n.min() >= 1 and found.n.max() <= len(curves)
    inside = found.n >= 2
    slack = 1e-6 * (1 + np.abs(found.middle[inside]))
    assert (found.low[inside] <= found.middle[inside] + slack).all()
    assert (found.high[inside] >= found.middle[inside] - slack).all()
    assert np.isnan(found.low[~inside]).all()
    assert found.x[0] == min(curve.x[0] for curve in curves) and found.x[-1] == max(curve.x[-1] for curve in curves)


def test_the_mean_until_a_place_is_the_area_below() -> None:
    rising = Points(np.array([0.0, 10.0]), np.array([0.0, 10.0]))
    assert mean_until(rising, 10) == 5 and mean_until(rising, 4) == 2
    assert np.isnan(mean_until(Points(np.array([5.0]), np.array([1.0])), 4))
    assert common_end([ONES, THREES]) == 3 and common_end([]) is None


def test_the_odd_one_out_lies_outside_all_others_for_long() -> None:
    x = np.arange(100.0)
    rng = np.random.default_rng(0)
    alike = [Points(x, x / 100 + rng.normal(0, 0.05, 100)) for _ in range(4)]
    assert outlier(alike) is None
    fallen = Points(x, np.where(x > 60, 0.1, x / 100) + rng.normal(0, 0.01, 100))
    found = outlier([alike[0], fallen, *alike[1:]])
    assert found is not None and found.run == 1 and 60 <= found.first <= 70 and found.last == 99
    assert outlier([alike[0], fallen]) is None
