"""Make any value storable, including invalid characters and numbers that are not finite. Never fails.

Cleaned text keeps its length, so that spans stay valid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, SupportsFloat

# SQL text cannot contain NUL, and UTF-8 cannot encode a lone surrogate.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def clean(text: str) -> str:
    """Return the text with U+FFFD in place of each character that cannot be stored."""
    return text if text.isascii() and "\0" not in text else _UNSTORABLE.sub("\ufffd", text)


def finite(value: SupportsFloat | None) -> float | None:
    """Return the number, or None if it is NaN or infinite."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def storable(value: Any) -> Any:
    """Return `value` as JSON types: cleaned text, None for numbers that are not finite, and other types as text."""
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
    """Flatten nested settings to dotted fields."""
    flattened: dict[str, Any] = {}
    for key, value in values.items():
        flattened |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flattened
