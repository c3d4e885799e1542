"""Roll-ups say of every range what its values say, however these were written, changed, cut off or moved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, text

from store.care import copying, transfer
from store.db import upgrade
from store.db.connection import reading, sqlite_engine, writing
from store.db.engine import Store, open_store
from store.db.rows import Band
from store.db.schema import Metric, MetricName, MetricRollup, RolledUp
from store.rollups import LARGEST, WIDTHS, read_rollups
from store.runs import delete_run
from store.steps import forget_steps, record_metrics, record_step, truncate_after
from tests.store import make

Points = Mapping[int, float | None]
Ranges = dict[int, tuple[int, float, float, float]]
"""Number, lowest, mean and highest value by the first step of each range."""

OLD_RUN = """
INSERT INTO run
    (id, uid, name, method, style, model, dataset, config, reward_weights, environment, sources, step, created_at)
VALUES (:id, :id, 'a', 'grpo', 'cot', 'm', 'd', '{}', '{}', '{}', '{}', 0, 0)
"""


def written(store: Store, points: Points, name: str = "m") -> int:
    run_id = make.run(store).id
    for step, value in points.items():
        record_metrics(store, run_id, step, {name: value})
    return run_id


def wanted(points: Points, width: int) -> Ranges:
    ranges: dict[int, list[float]] = {}
    for step, value in points.items():
        if value is not None:
            ranges.setdefault(step // width * width, []).append(value)
    return {start: (len(v), min(v), sum(v) / len(v), max(v)) for start, v in ranges.items()}


def said(band: Band) -> Ranges:
    columns = (band.n, band.low, band.mean, band.high)
    return dict(zip(band.step.tolist(), zip(*(c.tolist() for c in columns), strict=True), strict=True))


def assert_alike(found: Ranges, expected: Ranges) -> None:
    assert found.keys() == expected.keys()
    for start, figures in found.items():
        assert figures == pytest.approx(expected[start], rel=1e-9, abs=1e-9), start


def assert_same(band: Band, points: Points) -> None:
    assert_alike(said(band), wanted(points, band.width))


def stored(store: Store, run_id: int, width: int) -> Ranges:
    columns = (MetricRollup.start, MetricRollup.n, MetricRollup.low, MetricRollup.mean, MetricRollup.high)
    statement = select(*columns).where(MetricRollup.run_id == run_id, MetricRollup.width == width)
    with reading(store) as connection:
        return {start: tuple(figures) for start, *figures in connection.execute(statement)}


def until(store: Store, run_id: int) -> int:
    with reading(store) as connection:
        return connection.scalar(select(RolledUp.until).where(RolledUp.run_id == run_id)) or 0


def assert_rolled_up(store: Store, run_id: int, points: Points) -> None:
    """Every range that ends by `until` is rolled up as it is, and no other is."""
    end = until(store, run_id)
    last = max((step for step in points), default=-1)
    assert end % WIDTHS[0] == 0 and end <= max(last, 0)
    for width in WIDTHS:
        inside = {step: value for step, value in points.items() if step < end // width * width}
        assert_alike(stored(store, run_id, width), wanted(inside, width))


def wave(n: int) -> dict[int, float | None]:
    return {step: None if step % 7 == 3 else math.sin(step) * step for step in range(n)}


def test_a_trainer_rolls_up_what_it_completes(store: Store) -> None:
    run_id = written(store, wave(300))
    assert until(store, run_id) == 288
    assert_rolled_up(store, run_id, wave(300))
    assert set(stored(store, run_id, 256)) == {0}


def test_short_ranges_are_the_values_themselves(store: Store) -> None:
    run_id = written(store, wave(300))
    band = read_rollups(store, [run_id], "m", lo=100, hi=199, points=100)[run_id]
    assert band.width == 1
    assert said(band) == {s: (1, v, v, v) for s, v in wave(300).items() if v is not None and 100 <= s <= 199}


def test_runs_are_read_together_over_equal_ranges(store: Store) -> None:
    long, short, none = written(store, wave(400)), written(store, wave(90)), make.run(store).id
    other = written(store, {1: 5.0}, "other")
    found = read_rollups(store, [long, short, none, other], "m", points=10)
    assert {band.width for band in (found[long], found[short])} == {64}
    assert_same(found[long], wave(400))
    assert_same(found[short], wave(90))
    assert len(found[none].step) == len(found[other].step) == 0
    assert read_rollups(store, [long], "unknown")[long].step.tolist() == []


def test_a_spike_stands_out_and_its_run_is_thinned(store: Store) -> None:
    points = {step: 1.0 for step in range(700)} | {677: 99.0}
    run_id = written(store, points)
    band = read_rollups(store, [run_id], "m", points=7)[run_id]
    assert len(band.step) <= 8 and band.high.max() == 99.0 and band.n.sum() == 700
    assert_same(band, points)


def test_earlier_values_that_change_are_rolled_up_again(store: Store) -> None:
    points = wave(330)
    run_id = written(store, points)
    changes: dict[int, float | None] = {40: 1e6, 41: None, 319: -1e6, 329: 3.0}
    for step, value in changes.items():
        record_step(store, run_id, step, {"m": value}, at=None)
    points |= changes
    assert_rolled_up(store, run_id, points)
    forget_steps(store, run_id, [40, 41, 300, 329])
    points = {step: value for step, value in points.items() if step not in (40, 41, 300, 329)}
    assert_rolled_up(store, run_id, points)
    for at in (33, 280, -1):
        truncate_after(store, run_id, at)
        points = {step: value for step, value in points.items() if step <= at}
        assert_rolled_up(store, run_id, points)
    assert stored(store, run_id, 32) == {}


def test_a_resumed_run_is_rolled_up_anew(store: Store) -> None:
    run_id = written(store, wave(330))
    truncate_after(store, run_id, 300)
    again = {step: -1.0 for step in range(301, 560)}
    for step, value in again.items():
        record_step(store, run_id, step, {"m": value}, at=1.0)
    points = {step: value for step, value in wave(330).items() if step <= 300} | again
    assert_rolled_up(store, run_id, points)
    assert_same(read_rollups(store, [run_id], "m", points=20)[run_id], points)


def test_values_that_no_sum_can_hold_are_recorded(store: Store) -> None:
    most = 1.7e308
    run_id = written(store, {step: most for step in range(70)})
    band = read_rollups(store, [run_id], "m", points=3)[run_id]
    assert band.high.tolist() == [most] * len(band.step) and band.mean == pytest.approx(
        np.full(len(band.step), LARGEST)
    )


@settings(max_examples=80, deadline=None)
@given(
    writes=st.lists(st.tuples(st.integers(0, 700), st.floats(-5, 5) | st.none()), min_size=1, max_size=40),
    jump=st.integers(0, 400),
    ends=st.tuples(st.integers(0, 1100), st.integers(0, 1100)) | st.none(),
    points=st.integers(1, 40),
)
def test_what_is_read_is_what_was_written(
    shared: Store,
    writes: list[tuple[int, float | None]],
    jump: int,
    ends: tuple[int, int] | None,
    points: int,
) -> None:
    run_id = make.run(shared).id
    known: dict[int, float | None] = {}
    for step, value in (*writes, *((step + jump, value) for step, value in writes[::-1])):
        record_metrics(shared, run_id, step, {"m": value})
        known[step] = value
    assert_rolled_up(shared, run_id, known)
    lo, hi = (None, None) if ends is None else (min(ends), max(ends))
    band = read_rollups(shared, [run_id], "m", lo=lo, hi=hi, points=points)[run_id]
    inside = {s: v for s, v in known.items() if ends is None or min(ends) <= s <= max(ends)}
    assert_same(band, inside)
    assert len(band.step) <= points + 1
    if inside and (span := max(inside) - min(inside) + 1) > 32 * points:
        assert span / band.width >= points / 2


def test_moved_runs_are_rolled_up_where_they_arrive(store: Store, tmp_path: Path) -> None:
    points = wave(300)
    run_id = written(store, points)
    transfer.export_runs(store, [run_id], tmp_path / "run.zip")
    there = open_store(str(tmp_path / "there.db"))
    (brought,) = transfer.import_runs(there, tmp_path / "run.zip")
    assert until(there, brought.id) == 288
    assert_rolled_up(there, brought.id, points)
    copy = open_store(str(tmp_path / "copy.db"))
    copying.copy(store, copy)
    assert_rolled_up(copy, run_id, points)
    delete_run(there, brought.id)
    assert stored(there, brought.id, 32) == {} and until(there, brought.id) == 0
    there.close()
    copy.close()


def test_runs_of_an_older_database_are_rolled_up(tmp_path: Path) -> None:
    points = {1: wave(600), 2: {step: 2.0 for step in range(50, 60)}, 3: wave(32)}
    engine = sqlite_engine(tmp_path / "old.db")
    with engine.begin() as connection:
        command.upgrade(upgrade.alembic_config(connection), "0010")
        connection.execute(text("INSERT INTO metric_name (name) VALUES ('m')"))
        for id in points:
            connection.execute(text(OLD_RUN), {"id": id})
        rows = [
            {"run_id": id, "name_id": 1, "step": step, "value": value}
            for id, curve in points.items()
            for step, value in curve.items()
        ]
        connection.execute(insert(Metric), rows)
    engine.dispose()
    store = open_store(str(tmp_path / "old.db"))
    found = read_rollups(store, points, "m", points=10)
    for id, curve in points.items():
        assert until(store, id) == max(curve) // 32 * 32
        assert_rolled_up(store, id, curve)
        assert_same(found[id], curve)
    record_metrics(store, 1, 700, {"m": 1.0})
    assert_rolled_up(store, 1, points[1] | {700: 1.0})
    store.close()


def test_values_without_roll_ups_are_read_one_by_one(store: Store) -> None:
    run_id = written(store, {0: 0.0})
    with writing(store) as connection:
        name_id = connection.scalar(select(MetricName.id).where(MetricName.name == "m"))
        rows = [{"run_id": run_id, "name_id": name_id, "step": step, "value": float(step)} for step in range(1, 500)]
        connection.execute(insert(Metric), rows)
    band = read_rollups(store, [run_id], "m", points=5)[run_id]
    assert_same(band, {step: float(step) for step in range(500)})
    assert np.all(np.diff(band.step) == band.width)
