"""Make any value storable: text that UTF-8 or SQL cannot hold, and numbers that are not finite. Never fails.

Cleaned text keeps its length, so that spans stay valid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, SupportsFloat

# SQL text cannot hold NUL, UTF-8 cannot hold half a surrogate pair.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def clean(text: str) -> str:
    """Return the text with U+FFFD in place of each character that cannot be stored."""
    return text if text.isascii() and "\0" not in text else _UNSTORABLE.sub("\ufffd", text)


def finite(value: SupportsFloat | None) -> float | None:
    """Return the number, or None when it is NaN or infinite."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def storable(value: Any) -> Any:
    """Return `value` for JSON: text cleaned, non-finite numbers as None, and anything JSON does not know as text."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [storable(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return storable(value.item())
    return clean(str(value))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted field."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
