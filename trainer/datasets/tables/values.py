"""Interpret table cells of any origin: missing values, numbers, texts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

ABSENT = frozenset(
    (
        *("", "none", "null", "nan", "-nan", "nat", "<na>", "na", "n/a", "#n/a", "#na", "#n/a n/a"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
    )
)
"""Lower-case texts for a missing value: pandas' list, because pandas wrote or read most tables."""


def is_absent(value: object) -> bool:
    """Return whether a value is None, NaN, NaT, pandas' NA, or a text for a missing value."""
    if isinstance(value, str):
        return len(value) < 100 and value.strip().lower() in ABSENT
    if value is None:
        return True
    if type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    if isinstance(value, float) or (hasattr(value, "dtype") and getattr(value, "shape", None) == ()):
        # Only NaN and NaT are not equal to themselves.
        return bool(value != value)
    return False


def number(value: object) -> int | float | None:
    """Return the number in a Python, NumPy, torch or pandas value or in an array of one; None for anything else."""
    item = getattr(value, "item", None)
    if callable(item):
        try:
            value = item()
        except (ValueError, RuntimeError, TypeError):
            # It has several numbers, or none.
            return None
    if isinstance(value, Decimal) and value.is_finite():
        value = int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def text(value: object) -> str | None:
    """Return a value as text; None if it is missing. Whole numbers lose the decimal point that tables add to ids."""
    if is_absent(value):
        return None
    if isinstance(value, str):
        return str(value)
    parsed: Any = number(value)
    if parsed is None:
        return str(value)
    return str(int(parsed)) if isinstance(parsed, float) and parsed.is_integer() else str(parsed)
