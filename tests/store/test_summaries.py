"""What many runs recorded, in one query each: on SQLite and on PostgreSQL."""

from __future__ import annotations

import numpy as np

from store.db.engine import Store
from store.steps import record_metrics, record_step
from store.summaries import list_recorded, read_clocks, read_summary
from tests.store import make


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
