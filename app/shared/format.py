"""Numbers, durations and ages in words.

Every function accepts None (or NaN) and returns a dash for "unknown".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TypeGuard

UNKNOWN = "–"
NO_LINK = "\u2060"
_LINKED = re.compile(r"(?<=http)(?=s?://)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
_NUMBER = re.compile(r"\s*(< )?[+\-−]?\d")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&^=])")


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` significant digits: 12,345 · 0.612 · 3.00e-4."""
    if not _known(value):
        return UNKNOWN
    if value == 0:
        return "0"
    size = abs(value)
    if size < 1e-3:
        return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e")
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}"


def count(value: float | None) -> str:
    """Return a whole number with thousands separators."""
    return f"{value:,.0f}" if _known(value) else UNKNOWN


def aligned_format(values: Iterable[float | None]) -> str:
    """Return the printf format that gives all numbers of a column the same decimals: four digits for the largest."""
    largest = max((abs(value) for value in values if _known(value) and math.isfinite(value)), default=0.0)
    if largest >= 1e7 or 0 < largest < 1e-3:
        return "%.3g"
    return f"%.{max(0, 3 - max(0, math.floor(math.log10(largest or 1))))}f"


def is_number(text: str) -> bool:
    """Return whether a table's cell holds a number, perhaps with its unit and interval, or is unknown."""
    return text.strip() in ("", UNKNOWN) or _NUMBER.match(text) is not None


def pluralize(number: float, thing: str) -> str:
    """Return `1 run`, `2 runs` or `1,234 runs` for `run`."""
    return f"{count(number)} {thing}" if number == 1 else f"{count(number)} {thing}s"


def percent(share: float | None) -> str:
    return f"{100 * share:.0f} %" if _known(share) else UNKNOWN


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return a share with its interval: 0.61 (0.58–0.64)."""
    if not _known(value):
        return UNKNOWN
    if not (_known(low) and _known(high)):
        return f"{value:.2f}"
    return f"{value:.2f} ({low:.2f}–{high:.2f})"


def p_value(value: float | None) -> str:
    """Return a p-value: 0.034, or < 0.001."""
    if not _known(value):
        return UNKNOWN
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def seconds(value: float | None) -> str:
    """Return a short time: 320 ms, 1.4 s, 75 s."""
    if not _known(value):
        return UNKNOWN
    if value < 0.9995:
        return f"{1000 * value:.0f} ms"
    return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"


def duration(value: float | None) -> str:
    """Return seconds as the two largest units: 42 s, 2 min 38 s, 3 h 5 min, 4 d 7 h."""
    if not _known(value):
        return UNKNOWN
    whole = max(0, round(value))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        amount, whole = divmod(whole, size)
        parts.append((amount, unit))
    first = next((i for i, (amount, _) in enumerate(parts) if amount), len(parts) - 1)
    texts = [f"{amount} {unit}" for i, (amount, unit) in enumerate(parts[first : first + 2]) if amount or i == 0]
    return " ".join(texts)


def age(at: float | None, now: float) -> str:
    """Return how long ago a time (seconds since the epoch) was."""
    if not _known(at):
        return "never"
    elapsed = max(0.0, now - at)
    if elapsed < 1:
        return "just now"
    largest = duration(elapsed) if elapsed < 60 else " ".join(duration(elapsed).split()[:2])
    return f"{largest} ago"


def memory(value: float | None) -> str:
    """Return bytes as KiB, MiB or GiB: 12 KiB, 410 MiB, 7.8 GiB."""
    if not _known(value):
        return UNKNOWN
    if value < 1024**2:
        return f"{value / 1024:.0f} KiB"
    return f"{value / 1024**2:.0f} MiB" if value < 1024**3 else f"{value / 1024**3:.1f} GiB"


def literal(text: str) -> str:
    """Return text that Streamlit's Markdown shows literally; line breaks become spaces.

    URLs become links even with all characters escaped, so they get an invisible character.
    """
    return _MARKDOWN.sub(r"\\\1", _LINKED.sub(NO_LINK, " ".join(text.split())))


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and not math.isnan(value)
