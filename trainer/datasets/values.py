"""Cells of tables, whatever wrote them: what is absent, numbers, texts. Knows no columns."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

ABSENT = frozenset(
    (
        *("", "none", "null", "nan", "-nan", "nat", "<na>", "na", "n/a", "#n/a", "#na", "#n/a n/a"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
    )
)
"""Texts that stand for no value, in lower case: those of pandas, which is what most tables were written or read by."""


def is_absent(value: object) -> bool:
    """None, NaN, NaT, pandas' NA, and texts that stand for them."""
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
    """The number that a value is: of Python, NumPy, torch or pandas, also alone in an array; None for all else."""
    item = getattr(value, "item", None)
    if callable(item):
        try:
            value = item()
        except (ValueError, RuntimeError, TypeError):
            # More than one number, or one that is not there.
            return None
    if isinstance(value, Decimal) and value.is_finite():
        value = int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def text(value: object) -> str | None:
    """A value as text; None where it is absent. A whole number is written without a point, which tables add to ids."""
    if is_absent(value):
        return None
    if isinstance(value, str):
        return str(value)
    found: Any = number(value)
    if found is None:
        return str(value)
    return str(int(found)) if isinstance(found, float) and found.is_integer() else str(found)
