"""Columns of a table of questions: the spellings of their names, and the error when one is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.spec.errors import TrainerError

NEEDED = (("question",), ("answer",), ("image", "images"))
"""The accepted names of each column; at least one must be present."""
_SHOWN = 20


def name(given: object) -> str:
    """Return a column's plain name: `answer` for ` Answer` and the like."""
    return str(given).replace("\ufeff", "").strip().casefold()


def named(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row keyed by plain column names."""
    found: dict[str, Any] = {}
    for given, value in row.items():
        found.setdefault(name(given), value)
    return found


@dataclass
class Columns:
    """The column names that occurred in any row; `where` and `advice` word the error."""

    where: str
    advice: str
    found: dict[str, str] = field(default_factory=dict)
    """Original spellings by plain name."""

    def add(self, names: Iterable[object]) -> None:
        for given in names:
            self.found.setdefault(name(given), str(given).strip())

    def check(self, needed: Iterable[tuple[str, ...]] = NEEDED) -> None:
        """Raise TrainerError if a needed column occurred in no row."""
        if all(any(wanted in self.found for wanted in names) for names in needed):
            return
        raise TrainerError(
            "data",
            f"{self.where}: columns found: {listed(self.found.values())}; needed: "
            f"{', '.join(names[0] for names in needed)}. {self.advice}",
        )


def listed(names: Iterable[str]) -> str:
    """Return column names for a sentence: few and short."""
    shown = [printable(name, 60) or "(blank)" for name in names]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return (", ".join(shown[:_SHOWN]) or "none") + more


def printable(text: str, most: int) -> str:
    """Return the first characters of a foreign text, without control characters that a terminal would obey."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:most])
