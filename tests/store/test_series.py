"""Curves are thinned without losing what stands out."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from store.db.connection import writing
from store.db.engine import Store
from store.db.rows import Series
from store.db.schema import Metric
from store.metrics import list_metric_names, read_clock, read_ends, read_series
from store.runs import delete_run
from store.steps import record_metrics, record_step, truncate_after
from tests.store import make


def curve(store: Store, points: dict[int, float | None], name: str = "m") -> int:
    """A run whose metric has these points."""
    run_id = make.run(store).id
    record_metrics(store, run_id, 0, {name: 0.0})
    truncate_after(store, run_id, -1)
    key = {"run_id": run_id, "name_id": store.metric_ids[name]}
    with writing(store) as connection:
        connection.execute(insert(Metric), [{**key, "step": step, "value": value} for step, value in points.items()])
    return run_id


def one(store: Store, run_id: int, points: int, lo: int | None = None, hi: int | None = None) -> Series:
    return read_series(store, run_id, ["m"], points=points, lo=lo, hi=hi)["m"]


def test_a_short_curve_comes_back_as_it_is(store: Store) -> None:
    run_id = curve(store, {5: 1.0, 1: None, 9: -2.0})
    found = one(store, run_id, 3)
    assert found.step.tolist() == [1, 5, 9]
    assert math.isnan(found.value[0])
    assert found.value[1:].tolist() == [1.0, -2.0]
    assert found.total == 3


def test_no_spike_is_lost(store: Store) -> None:
    dice = random.Random(0)
    spikes = {1000 * number + dice.randrange(1, 900) for number in range(20)}
    run_id = curve(store, {step: -9.0 if step in spikes else dice.random() for step in range(1, 20_001)})
    found = one(store, run_id, 500)
    assert set(found.step[found.value == -9.0].tolist()) == spikes
    assert len(found.step) <= 500
    assert found.total == 20_000


@settings(max_examples=60, deadline=None)
@given(
    points=st.dictionaries(st.integers(0, 300), st.floats(-5, 5) | st.none(), min_size=1, max_size=120),
    size=st.integers(4, 60),
    bounds=st.tuples(st.integers(0, 300), st.integers(0, 300)) | st.none(),
)
def test_a_thinned_curve_is_a_true_one(
    shared: Store, points: dict[int, float | None], size: int, bounds: tuple[int, int] | None
) -> None:
    run_id = curve(shared, points)
    lo, hi = bounds or (None, None)
    found = one(shared, run_id, size, lo, hi)
    wanted = {step: value for step, value in points.items() if bounds is None or bounds[0] <= step <= bounds[1]}
    assert found.total == len(wanted)
    assert len(found.step) <= size
    assert found.step.tolist() == sorted(set(found.step.tolist()))
    for step, value in zip(found.step.tolist(), found.value.tolist(), strict=True):
        assert (None if math.isnan(value) else value) == wanted[step]
    if wanted:
        assert {min(wanted), max(wanted)} <= set(found.step.tolist())
    if len(wanted) <= size:
        assert len(found.step) == len(wanted)
    finite = [value for value in wanted.values() if value is not None]
    if finite:
        assert {min(finite), max(finite)} <= set(found.value.tolist())
    delete_run(shared, run_id)


def test_many_metrics_of_one_run(store: Store) -> None:
    run = make.run(store)
    make.steps(store, run.id, 30, loss=math.nan)
    found = read_series(store, run.id, ["reward", "loss", "unknown", "nul\0"], points=10)
    assert found["reward"].total == found["loss"].total == 30
    assert found["unknown"].total == found["nul\0"].total == 0
    assert found["unknown"].step.tolist() == []


@pytest.mark.parametrize("tokens", [None, 5.0])
def test_the_clock(store: Store, tokens: float | None) -> None:
    run = make.run(store)
    assert read_clock(store, run.id).step.tolist() == []
    record_step(store, run.id, 3, {}, at=9.0, tokens=tokens)
    clock = read_clock(store, run.id)
    assert (clock.step.tolist(), clock.at.tolist()) == ([3], [9.0])
    assert clock.tokens[0] == tokens if tokens else math.isnan(clock.tokens[0])


def test_metric_names_are_those_of_the_run(store: Store) -> None:
    run, other = make.run(store), make.run(store)
    record_metrics(store, run.id, 1, {"z": 1.0, "a": None})
    record_metrics(store, other.id, 1, {"b": 1.0})
    assert list_metric_names(store, run.id) == ["a", "z"]


@given(
    points=st.dictionaries(st.integers(0, 300), st.floats(-5, 5) | st.none(), min_size=1, max_size=40),
    count=st.integers(1, 8),
)
@settings(max_examples=40, deadline=None)
def test_the_ends_of_a_curve_are_its_first_and_last_values(
    shared: Store, points: dict[int, float | None], count: int
) -> None:
    run_id = curve(shared, points)
    found = read_ends(shared, run_id, ["m", "nobody's"], count)
    known = [(step, value) for step, value in sorted(points.items()) if value is not None]
    wanted = dict(known[:count] + known[-count:])
    assert dict(zip(found["m"].step.tolist(), found["m"].value.tolist(), strict=True)) == wanted
    assert list(found) == ["m"]
    delete_run(shared, run_id)
