"""Check the columns of a row (type, range, length, shape) against the schema.

For rows from elsewhere, and for stored rows, which another program may have written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, Boolean, Column, Float, Integer, LargeBinary, String, Table

from store.db.domains import FiguresObject, JsonList, JsonObject, NumbersObject
from store.db.values import clean

MOST = 1e100
"""Largest absolute value of a number, so that sums and squares stay finite."""
MOST_INTEGER = 2**31 - 1
"""The largest value of an INTEGER column in PostgreSQL; SQLite's are larger."""
DEEPEST = 40
"""Deepest nesting of lists and objects."""
UIDS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_")

Check = Callable[[Any], str | None]
"""Returns what is wrong with a value other than NULL, or None."""


def faults(table: Table, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name of each column with an invalid value in `row`, and what is wrong."""
    for name, nullable, check in _checks(table, frozenset(row)):
        value = row[name]
        fault = (None if nullable else "is missing") if value is None else check(value)
        if fault is not None:
            yield name, fault


def clear_invalid(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with an empty value in place of each invalid one."""
    return dict(row) | {name: empty(table.c[name]) for name, _ in faults(table, row)}


@lru_cache(maxsize=256)
def _checks(table: Table, names: frozenset[str]) -> tuple[tuple[str, bool, Check], ...]:
    checked_columns = [column for column in table.columns if column.name in names]
    return tuple((column.name, bool(column.nullable), check_of(column)) for column in checked_columns)


def check_of(column: Column[Any]) -> Check:
    """Return the check for a column's values other than NULL."""
    kind = column.type
    if (words := column.info.get("one_of")) is not None:
        return lambda value: None if value in words else f"is not one of {', '.join(words)}: {_shown(value)}"
    if column.info.get("names_files"):
        return _uid(getattr(kind, "length", None) or MOST_INTEGER)
    if isinstance(kind, Boolean):
        return lambda value: None if value in (0, 1) and not isinstance(value, float) else "is neither true nor false"
    if isinstance(kind, Integer):
        return _whole(getattr(kind, "least", -MOST_INTEGER - 1), getattr(kind, "most", MOST_INTEGER))
    if isinstance(kind, Float):
        return _number(getattr(kind, "least", -MOST), getattr(kind, "most", MOST))
    if isinstance(kind, LargeBinary):
        return lambda value: None if isinstance(value, bytes) else "is not binary"
    if isinstance(kind, JsonObject | JSON):
        return _json(kind)
    if isinstance(kind, String):
        return _text(kind.length or math.inf)
    raise TypeError(f"No check exists for {kind!r}.")


def _whole(least: int, most: int) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return f"is not a whole number: {_shown(value)}"
        return None if least <= value <= most else f"is not between {least:,} and {most:,}"

    return check


def _number(least: float, most: float) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return f"is not a number: {_shown(value)}"
        return None if least <= value <= most else f"is not between {least:g} and {most:g}"

    return check


def _text(longest: float) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return f"is not a text: {_shown(value)}"
        if len(value) > longest:
            return f"is longer than {longest:,} characters"
        return None if clean(value) == value else "contains an invalid character"

    return check


def _uid(longest: int) -> Check:
    """Return a check for uids, which occur in file names and URLs."""

    def check(value: Any) -> str | None:
        is_name = isinstance(value, str) and 0 < len(value) <= longest and UIDS.issuperset(value)
        return None if is_name else f"does not consist of letters and digits: {_shown(value)}"

    return check


def _json(kind: Any) -> Check:
    shape: Any = kind.shape if isinstance(kind, JsonObject) else object
    called = "a list" if isinstance(kind, JsonList) else "an object"
    is_leaf = _is_figure if isinstance(kind, FiguresObject) else _is_number

    def check(value: Any) -> str | None:
        if not isinstance(value, shape):
            return f"is not {called}: {_shown(value)}"
        if isinstance(kind, NumbersObject | FiguresObject):
            odd = next((name for name, item in value.items() if not is_leaf(name, item)), None)
            return None if odd is None else f"contains a value that is not a number under {_shown(odd)}"
        return _fault_inside(value)

    return check


def _is_number(name: str, value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and -MOST <= value <= MOST


def _is_figure(name: str, value: Any) -> bool:
    if not name.startswith("by_"):
        return _is_number(name, value)
    return isinstance(value, dict) and all(
        isinstance(pair, list) and len(pair) == 2 and all(item is not None and _is_number(name, item) for item in pair)
        for pair in value.values()
    )


def _fault_inside(value: Any) -> str | None:
    """Return what is wrong with JSON of any shape: numbers that are not finite or too large, or too deep nesting."""
    level = [value]
    for _ in range(DEEPEST):
        if not level:
            return None
        for item in level:
            if isinstance(item, float | int) and not -MOST <= item <= MOST:
                return "contains a number that is too large or not finite"
            if isinstance(item, str) and clean(item) != item:
                return "contains an invalid character"
        level = [
            inner
            for item in level
            if isinstance(item, list | dict)
            for inner in (item if isinstance(item, list) else (*item, *item.values()))
        ]
    return f"is nested more than {DEEPEST} levels deep"


def empty(column: Column[Any]) -> Any:
    """Return the value that replaces an invalid one."""
    kind = column.type
    if column.nullable:
        return None
    if isinstance(kind, JsonObject):
        return kind.shape()
    if isinstance(kind, LargeBinary):
        return b""
    return 0 if isinstance(kind, Boolean | Integer) else 0.0 if isinstance(kind, Float) else ""


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, str | bytes | float | bool) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:36]} …"
