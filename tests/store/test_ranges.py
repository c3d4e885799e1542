"""Curves of many runs, thinned in the database: on SQLite and on PostgreSQL."""

from __future__ import annotations

import numpy as np

from store.db.engine import Store
from store.ranges import list_recorded, longest, range_width, read_clocks, read_ranges, read_summary
from store.steps import record_metrics, record_step
from tests.store import make


def test_ranges_hold_extremes_and_means_of_each_run(store: Store) -> None:
    one, two, none = (make.run(store, name=name).id for name in ("one", "two", "none"))
    for step, value in enumerate((1.0, 9.0, 2.0, None, 5.0)):
        record_metrics(store, one, step, {"reward": value})
    record_metrics(store, two, 7, {"reward": 3.0})
    found = read_ranges(store, (one, two, none), "reward", width=2)
    assert set(found) == {one, two}
    assert [each.tolist() for each in found[one]] == [[0, 2, 4], [1, 2, 4], [1, 2, 5], [9, 2, 5], [5, 2, 5]]
    assert found[two].first.tolist() == [7] and longest(found) == 7
    within = read_ranges(store, (one,), "reward", lo=1, hi=2)[one]
    assert within.first.tolist() == [1, 2] and within.mean.tolist() == [9, 2]
    assert read_ranges(store, (one,), "unknown") == {} and read_ranges(store, (), "reward") == {}


def test_the_width_is_a_power_of_two_that_fits() -> None:
    assert [range_width(0, hi, 100) for hi in (0, 99, 100, 399, 400)] == [1, 1, 2, 4, 8]


def test_metrics_are_listed_with_the_runs_that_have_them(store: Store) -> None:
    one, two = make.run(store, name="one").id, make.run(store, name="two").id
    record_metrics(store, one, 1, {"a": 1.0, "b": 1.0})
    record_metrics(store, two, 1, {"b": 1.0})
    assert list_recorded(store, (one, two)) == {"a": frozenset({one}), "b": frozenset({one, two})}
    assert list_recorded(store, (two,)) == {"b": frozenset({two})}


def test_clocks_are_thinned_evenly_with_both_ends(store: Store) -> None:
    run, other = make.run(store, name="one").id, make.run(store, name="other").id
    for step in range(1, 101):
        record_step(store, run, step, {}, at=1000.0 + step, tokens=None if step == 1 else 10.0 * step)
    found = read_clocks(store, (run, other), knots=10)
    assert set(found) == {run}
    assert found[run].step.tolist() == [1, *range(10, 101, 10)]
    assert found[run].at[-1] == 1100 and np.isnan(found[run].tokens[0]) and found[run].tokens[-1] == 1000


def test_a_summary_is_of_known_values(store: Store) -> None:
    one, two = make.run(store, name="one").id, make.run(store, name="two").id
    for step in range(1, 41):
        record_metrics(store, one, step, {"reward": float(step)})
    record_metrics(store, one, 41, {"reward": None})
    assert read_summary(store, (one, two), "reward") == {one: (40.0, 1.0, 40.0, 20.5, 30.5)}
