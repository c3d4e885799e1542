"""Databases of before the roll-ups, in files and on a server: nothing is lost, and their curves are rolled up."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from alembic import command
from sqlalchemy import MetaData, Table, insert, make_url, select, text

from store.completions.rows import iter_completions
from store.db import upgrade
from store.db.connection import reading, server_engine, sqlite_engine, sqlite_path
from store.db.engine import database_url, open_store
from store.db.schema import Metric, MetricName, MetricRollup, RolledUp
from store.rollups import WIDTHS, read_rollups
from store.runs import list_runs
from tests.store.test_released_schemas import ROWS, value

BEFORE = "0012"
FIRST, COUNT = 1000, 700


def fill(url: str) -> tuple[int, int]:
    """Make a database of before with rows in every table and one long curve; return its run and metric name."""
    path = sqlite_path(make_url(database_url(url)))
    engine = sqlite_engine(path) if path else server_engine(make_url(url))
    with engine.begin() as connection:
        command.upgrade(upgrade.alembic_config(connection), BEFORE)
    metadata = MetaData()
    metadata.reflect(engine)
    metric = metadata.tables["metric"]
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            if table.name != "alembic_version":
                names = [column.name for column in table.columns]
                rows = [{name: fitting(table, name, number) for name in names} for number in range(ROWS)]
                connection.execute(insert(table), rows)
        run_id, name_id = connection.execute(select(metric.c.run_id, metric.c.name_id).limit(1)).one()
        curve = [
            {"run_id": run_id, "name_id": name_id, "step": step, "value": None if step % 97 == 0 else (step % 13) / 4}
            for step in range(FIRST, FIRST + COUNT)
        ]
        connection.execute(insert(metric), curve)
    engine.dispose()
    return run_id, name_id


def fitting(table: Table, name: str, number: int) -> Any:
    """Return the value, no longer than a server lets the column be."""
    made, most = value(table, name, number), getattr(table.c[name].type, "length", None)
    return made[:most] if isinstance(made, str) else made


def test_curves_are_rolled_up_and_steps_renamed(url: str) -> None:
    run_id, name_id = fill(url)
    store = open_store(url)
    assert len(list_runs(store)) == ROWS
    assert all(len(list(iter_completions(store, run.id))) == 1 for run in list_runs(store))
    own = (Metric.run_id == run_id, Metric.name_id == name_id)
    with reading(store) as connection:
        known = connection.execute(select(Metric.step, Metric.value).where(*own, Metric.value.is_not(None))).all()
        until = connection.scalar(select(RolledUp.until).where(RolledUp.run_id == run_id)) or 0
        assert until == (FIRST + COUNT - 1) // WIDTHS[0] * WIDTHS[0]
        assert connection.scalar(text("SELECT count(reasoning_steps) FROM completion")) == ROWS
        for width in WIDTHS:
            expected: dict[int, list[float]] = defaultdict(list)
            for step, number in known:
                if step < until // width * width:
                    expected[step // width * width].append(number)
            of_width = (MetricRollup.run_id == run_id, MetricRollup.name_id == name_id, MetricRollup.width == width)
            columns = (MetricRollup.start, MetricRollup.n, MetricRollup.low, MetricRollup.high, MetricRollup.mean)
            found = connection.execute(select(*columns).where(*of_width).order_by(MetricRollup.start)).all()
            assert [row.start for row in found] == sorted(expected)
            for row in found:
                values = expected[row.start]
                assert (row.n, row.low, row.high) == (len(values), min(values), max(values))
                assert row.mean == pytest.approx(sum(values) / len(values))
        name = connection.scalar(select(MetricName.name).where(MetricName.id == name_id)) or ""
    band = read_rollups(store, [run_id], name, lo=FIRST, points=8)[run_id]
    assert band.n.sum() == sum(1 for step, _ in known if step >= FIRST)
    store.close()
