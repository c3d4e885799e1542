"""A table of runs with chosen columns (configuration, metrics, notes): sorting, baseline, groups. Pure functions."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.curves.grouping import value_text
from app.shared import format
from store.summaries import RECENT, Summary
from store.terminal import unformulaic

AGGREGATES = {
    "last": "last",
    "highest": "high",
    "lowest": "low",
    "mean": "mean",
    f"mean of the last {RECENT}": "recent",
}
"""Aggregates of a run's metric by label, each with its field of Summary."""
RUN_COLUMNS = ("status", "method", "step", "seed", "accuracy", "note", "tags", "created")
"""Columns of every run."""
MOST_LISTED = 3
"""Maximum number of a group's numbers that are listed individually."""
DESCENDING = "↓ "
Cell = str | float | None


MEASURED = ("accuracy", "step")
"""Columns that are measured, like metrics; others are settings."""


@dataclass(frozen=True)
class ValuesColumn:
    """A column; `key` is its name in the URL: `reward:last`, `lora.rank` or one of OF_RUN."""

    key: str
    cells: Mapping[int, Cell]
    """Cells by run id."""

    @property
    def is_number(self) -> bool:
        present = [cell for cell in self.cells.values() if cell is not None]
        return bool(present) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in present)

    @property
    def is_measured(self) -> bool:
        return self.is_number and (metric_of(self.key) is not None or self.key in MEASURED)


def metric_of(key: str) -> tuple[str, str] | None:
    """Return the metric and aggregate of a column's key; None if it is not a metric."""
    name, separator, aggregate = key.rpartition(":")
    return (name, aggregate) if separator and aggregate in AGGREGATES else None


def of_metric(key: str, summaries: Mapping[int, Summary]) -> ValuesColumn:
    _, aggregate = metric_of(key) or ("", "last")
    return ValuesColumn(key, {id: float(getattr(each, AGGREGATES[aggregate])) for id, each in summaries.items()})


def of_field(field: str, settings: Mapping[int, Mapping[str, Any]]) -> ValuesColumn:
    """Return the column of a configuration field: numbers as numbers, everything else as text."""
    return ValuesColumn(field, {id: _cell(each.get(field)) for id, each in settings.items()})


def _cell(value: Any) -> Cell:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    return value_text(value)


def sort_runs(ids: Sequence[int], columns: Mapping[str, ValuesColumn], by: Sequence[str]) -> list[int]:
    """Return the runs sorted by several columns, the first one first; empty cells come last."""
    ordered_ids = list(ids)
    for key in reversed(by):
        column = columns.get(key.removeprefix(DESCENDING))
        if column is None:
            continue
        full = [id for id in ordered_ids if column.cells.get(id) is not None]
        full.sort(key=_comparable(column), reverse=key.startswith(DESCENDING))
        ordered_ids = [*full, *(id for id in ordered_ids if column.cells.get(id) is None)]
    return ordered_ids


def _comparable(column: ValuesColumn) -> Any:
    if column.is_number:
        return lambda id: column.cells[id]
    return lambda id: str(column.cells[id]).casefold()


def baseline_differences(columns: Sequence[ValuesColumn], baseline: int) -> dict[str, dict[int, float]]:
    """Return each number's difference from the baseline's, by column and run."""
    differences: dict[str, dict[int, float]] = {}
    for column in columns:
        reference = column.cells.get(baseline)
        if column.is_number and isinstance(reference, int | float):
            numbers = {id: cell for id, cell in column.cells.items() if isinstance(cell, int | float)}
            differences[column.key] = {id: cell - reference for id, cell in numbers.items()}
    return differences


def in_groups(groups: Mapping[str, Sequence[int]], columns: Sequence[ValuesColumn]) -> list[dict[str, Cell]]:
    """Return a row per group: n, and for each column its distinct values or, if measured, mean ± standard deviation,
    with n where some are missing.
    """
    rows: list[dict[str, Cell]] = []
    for label, ids in groups.items():
        row: dict[str, Cell] = {"group": label, "n": len(ids)}
        for column in columns:
            cells = [cell for id in ids if (cell := column.cells.get(id)) is not None]
            row[column.key] = _spread(cells, len(ids)) if column.is_measured else _occurring(cells)
        rows.append(row)
    return rows


def sort_groups(
    groups: Mapping[str, Sequence[int]], columns: Mapping[str, ValuesColumn], by: Sequence[str]
) -> dict[str, Sequence[int]]:
    """Return the groups sorted by their means in several numeric columns, the first one first."""
    items = list(groups.items())
    for key in reversed(by):
        column = columns.get(key.removeprefix(DESCENDING))
        if column is not None and column.is_number:
            sign = -1 if key.startswith(DESCENDING) else 1
            items.sort(key=lambda group: _mean_of(group[1], column, sign))
    return dict(items)


def _mean_of(ids: Sequence[int], column: ValuesColumn, sign: int) -> float:
    """Return a mean times `sign`, as a sort key that puts groups without values last."""
    numbers = [float(cell) for id in ids if isinstance(cell := column.cells.get(id), int | float)]
    return sign * float(np.mean(numbers)) if numbers else float("inf")


def _spread(cells: Sequence[Any], n: int) -> str | None:
    if not cells:
        return None
    text = format.number(float(np.mean(cells)))
    if len(cells) > 1:
        text += f" ± {format.number(float(np.std(cells, ddof=1)))}"
    return text if len(cells) == n else f"{text} (n = {len(cells)})"


def _occurring(cells: Sequence[Cell]) -> str | None:
    """Return the distinct values; for many numbers, the lowest and the highest."""
    distinct = list(dict.fromkeys(cells))
    if len(distinct) > MOST_LISTED and all(isinstance(cell, int | float) for cell in distinct):
        distinct.sort(key=lambda cell: float(cell or 0))
        return f"{distinct[0]} to {distinct[-1]}"
    return ", ".join(map(str, distinct)) or None


def as_csv(rows: Sequence[Mapping[str, Cell | Sequence[str]]]) -> str:
    """Return rows with equal keys as CSV, in which no cell is taken for a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if rows:
        writer.writerow([unformulaic(key) for key in rows[0]])
        writer.writerows([[_csv_cell(cell) for cell in row.values()] for row in rows])
    return out.getvalue()


def _csv_cell(cell: Any) -> Any:
    if isinstance(cell, str):
        return unformulaic(cell)
    return unformulaic(", ".join(cell)) if isinstance(cell, list | tuple) else "" if cell is None else cell
