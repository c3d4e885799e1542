"""Runs in columns of one's choice: order, differences, groups and CSV, as pure functions."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from app.curves import values
from app.curves.values import ValuesColumn
from store.summaries import Summary

RANK = ValuesColumn("lora.rank", {1: 16, 2: 64, 3: 16, 4: None})
REWARD = ValuesColumn("reward:last", {1: 1.0, 2: 3.0, 3: 2.0, 4: 5.0})
NOTE = ValuesColumn("note", {1: "b", 2: None, 3: "A", 4: "c"})
COLUMNS = {each.key: each for each in (RANK, REWARD, NOTE)}


def test_rows_are_sorted_by_several_columns_and_empty_cells_come_last() -> None:
    assert values.sort_runs([1, 2, 3, 4], COLUMNS, ["lora.rank", "↓ reward:last"]) == [3, 1, 2, 4]
    assert values.sort_runs([1, 2, 3, 4], COLUMNS, ["↓ lora.rank"]) == [2, 1, 3, 4]
    assert values.sort_runs([1, 2, 3, 4], COLUMNS, ["note"]) == [3, 1, 4, 2]
    assert values.sort_runs([4, 1], COLUMNS, ["gone"]) == [4, 1]


def test_differences_to_a_baseline_are_those_of_numbers() -> None:
    assert values.baseline_differences([RANK, REWARD, NOTE], 1) == {
        "lora.rank": {1: 0, 2: 48, 3: 0},
        "reward:last": {1: 0, 2: 2, 3: 1, 4: 4},
    }
    assert "lora.rank" not in values.baseline_differences([RANK], 4), "the baseline has no such value"


def test_groups_show_their_spread_and_how_many_it_is_from() -> None:
    rows = values.in_groups({"low": [1, 3], "rest": [2, 4]}, [RANK, REWARD, NOTE])
    assert rows[0] == {"group": "low", "n": 2, "lora.rank": "16", "reward:last": "1.50 ± 0.707", "note": "b, A"}
    assert rows[1]["lora.rank"] == "64"
    seeds = ValuesColumn("seed", {1: 3, 2: 0, 3: 4, 4: 1})
    assert values.in_groups({"all": [1, 2, 3, 4]}, [seeds])[0]["seed"] == "0 to 4", "nobody averages seeds"


def test_groups_are_sorted_by_their_means() -> None:
    groups = {"low": [1, 3], "rest": [2, 4], "none": []}
    assert list(values.sort_groups(groups, COLUMNS, ["↓ reward:last"])) == ["rest", "low", "none"]
    assert list(values.sort_groups(groups, COLUMNS, ["reward:last"])) == ["low", "rest", "none"]
    assert list(values.sort_groups(groups, COLUMNS, ["note", "gone"])) == list(groups)


def test_a_metric_is_a_column_by_its_aggregate() -> None:
    found = {1: Summary(last=1.0, low=0.0, high=9.0, mean=3.0, recent=2.0)}
    aggregates = {name: values.of_metric(f"a:b:{name}", found).cells[1] for name in values.AGGREGATES}
    assert aggregates == {"last": 1, "highest": 9, "lowest": 0, "mean": 3, "mean of the last 20": 2}
    assert values.metric_of("a:b:last") == ("a:b", "last") and values.metric_of("lora.rank") is None


@given(st.text(), st.text())
def test_no_cell_of_the_csv_is_a_formula(key: str, cell: str) -> None:
    rows = list(csv.reader(io.StringIO(values.as_csv([{"name": cell, key: [cell], "empty": None, "number": -1.5}]))))
    assert all(not each.startswith(("=", "+", "@", "-")) for row in rows for each in row if each != "-1.5")
