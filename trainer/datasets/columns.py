"""The columns of a table of questions: their names as people write them, and what to say where they are not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.spec.errors import TrainerError

NEEDED = (("question",), ("answer",), ("image", "images"))
"""Each by its names, of which one must be there."""
_SHOWN = 20


def name(given: object) -> str:
    """`answer` for ` Answer` and the like."""
    return str(given).replace("\ufeff", "").strip().casefold()


def named(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row with the plain names of its columns."""
    found: dict[str, Any] = {}
    for given, value in row.items():
        found.setdefault(name(given), value)
    return found


@dataclass
class Columns:
    """The names that any row had; `where` and `advice` word the error."""

    where: str
    advice: str
    found: dict[str, str] = field(default_factory=dict)
    """As they were written, by their plain names."""

    def add(self, names: Iterable[object]) -> None:
        for given in names:
            self.found.setdefault(name(given), str(given).strip())

    def check(self, needed: Iterable[tuple[str, ...]] = NEEDED) -> None:
        """Raises TrainerError where a needed column was in no row."""
        if all(any(wanted in self.found for wanted in names) for names in needed):
            return
        raise TrainerError(
            "data",
            f"{self.where}: columns found: {listed(self.found.values())}; needed: "
            f"{', '.join(names[0] for names in needed)}. {self.advice}",
        )


def listed(names: Iterable[str]) -> str:
    """Names of columns for a sentence: few and short."""
    shown = [printable(name, 60) or "(blank)" for name in names]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return (", ".join(shown[:_SHOWN]) or "none") + more


def printable(text: str, most: int) -> str:
    """The first characters of a foreign text, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:most])
