"""Makes any value storable: text that UTF-8 or SQL cannot hold, numbers that are not numbers. Never fails.

A cleaned text is as long as before, so that spans stay true.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, SupportsFloat

# SQL text cannot hold NUL, UTF-8 no half of a surrogate pair.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def clean(text: str) -> str:
    """The text with U+FFFD for each character that cannot be stored."""
    return text if text.isascii() and "\0" not in text else _UNSTORABLE.sub("\ufffd", text)


def finite(value: SupportsFloat | None) -> float | None:
    """The number, or None when it is NaN or infinite."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def storable(value: Any) -> Any:
    """`value` with text cleaned and NaN replaced, as JSON can hold it; what JSON does not know becomes text."""
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
