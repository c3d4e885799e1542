"""Recognise the columns of a table of questions, and report missing ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.spec.errors import TrainerError

NEEDED = (("question",), ("answer",), ("image", "images"))
"""The accepted names of each required column."""
_SHOWN = 20


def name(column: object) -> str:
    """Return a column's plain name: `answer` for ` Answer` and the like."""
    return str(column).replace("\ufeff", "").strip().casefold()


def rename_keys(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row keyed by plain column names."""
    renamed: dict[str, Any] = {}
    for column, value in row.items():
        renamed.setdefault(name(column), value)
    return renamed


@dataclass
class Columns:
    """The column names that occur in any row; `where` and `advice` are used in the error message."""

    where: str
    advice: str
    found: dict[str, str] = field(default_factory=dict)
    """Original names by plain name."""

    def add(self, names: Iterable[object]) -> None:
        for column in names:
            self.found.setdefault(name(column), str(column).strip())

    def check(self, needed: Iterable[tuple[str, ...]] = NEEDED) -> None:
        """Raise TrainerError if a required column is in no row."""
        if all(any(alternative in self.found for alternative in names) for names in needed):
            return
        raise TrainerError(
            "data",
            f"{self.where}: found columns {listed(self.found.values())}; required are "
            f"{', '.join(names[0] for names in needed)}. {self.advice}",
        )


def listed(names: Iterable[str]) -> str:
    """List column names in a sentence, at most a few and shortened."""
    texts = [printable(name, 60) or "(blank)" for name in names]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return (", ".join(texts[:_SHOWN]) or "none") + more


def printable(text: str, most: int) -> str:
    """Return the first characters of an untrusted text, without control characters for a terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:most])
