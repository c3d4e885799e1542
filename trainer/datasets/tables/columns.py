"""Recognise the columns of a table of questions, also by usual other names, and report missing ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from trainer.spec.errors import TrainerError

NEEDED = (("question",), ("answer",), ("image", "images"))
"""The accepted names of each required column."""
ALIASES = {
    "question": ("problem", "prompt", "query", "instruction"),
    "answer": ("solution", "label", "count", "ground_truth", "target"),
    "image": ("file_name", "filename", "image_path", "image_file", "img", "img_path", "picture"),
}
"""Names that other tools use. One of them stands for a required column that is in no row, if it is the only one."""
COCO = frozenset(("images", "annotations"))
CHATS = frozenset(("messages", "conversations"))
_SHOWN = 20


def name(column: object) -> str:
    """Return a column's plain name: `answer` for ` Answer` and the like."""
    return str(column).replace("\ufeff", "").strip().casefold()


def rename_keys(row: Mapping[Any, Any], aliases: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return a row keyed by plain column names, with those in `aliases` replaced."""
    renamed: dict[str, Any] = {}
    for column, value in row.items():
        plain = name(column)
        renamed.setdefault(aliases.get(plain, plain), value)
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

    def check(self, needed: Iterable[tuple[str, ...]] = NEEDED, *, by_alias: bool = False) -> None:
        """Raise TrainerError if a required column is in no row; with `by_alias`, one of its aliases is enough."""
        missing = [names for names in needed if not any(wanted in self.found for wanted in names)]
        if by_alias:
            missing = [names for names in missing if len(self._named_like(names[0])) != 1]
        if not missing:
            return
        raise TrainerError(
            "data",
            f"{self.where}: found columns {listed(self.found.values())}; required are "
            f"{', '.join(names[0] for names in needed)}. {self._advice(missing if by_alias else [])}",
        )

    @property
    def aliases(self) -> dict[str, str]:
        """Return the required column for which another one stands, by plain names."""
        missing = [names[0] for names in NEEDED if not any(wanted in self.found for wanted in names)]
        likely = {wanted: self._named_like(wanted) for wanted in missing}
        return {names[0]: wanted for wanted, names in likely.items() if len(names) == 1}

    def _named_like(self, wanted: str) -> list[str]:
        return [each for each in self.found if each.replace(" ", "_").replace("-", "_") in ALIASES.get(wanted, ())]

    def _advice(self, missing: Iterable[tuple[str, ...]]) -> str:
        if self.found.keys() >= COCO:
            return "This is a file of COCO, whose objects are not questions. Write a row for each question."
        if self.found.keys() & CHATS:
            return "Chats are not read. Write the question and the answer of each in columns of their own."
        for names in missing:
            if len(likely := self._named_like(names[0])) > 1:
                either = " or ".join(self.found[each] for each in likely)
                return f"It is not clear whether {either} is the {names[0]}. Rename that column."
        return self.advice


def listed(names: Iterable[str]) -> str:
    """List column names in a sentence, at most a few and shortened."""
    texts = [printable(name, 60) or "(blank)" for name in names]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return (", ".join(texts[:_SHOWN]) or "none") + more


def printable(text: str, most: int) -> str:
    """Return the first characters of an untrusted text, without control characters for a terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:most])
