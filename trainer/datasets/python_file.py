"""Read a user's own dataset in code: `FILE.py:examples`, a function `examples(split)` that returns Examples or dicts.

A dict has `question`, `answer` and `image` or `images` (anything that `pictures` reads; paths are relative to the
file), and optionally `key`, `difficulty` and `reference`. The function is called with train, val and test, and may
return a list or iterator of them, a `Dataset`, or a data frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainer.datasets import folder, questions
from trainer.datasets.example import Example
from trainer.datasets.pictures import pictures
from trainer.datasets.questions import RawExample, Skipped
from trainer.datasets.tables import columns
from trainer.datasets.tables.columns import Columns
from trainer.datasets.tables.rows import Row, rows
from trainer.spec import foreign
from trainer.spec.errors import TrainerError


@dataclass(frozen=True)
class PythonFile:
    """`reference` is `FILE.py:function`; `root` is a folder of images, in addition to the file's own."""

    reference: str
    root: Path | None = None
    splits: tuple[str, ...] = folder.SPLITS

    @cached_property
    def function(self) -> foreign.Foreign:
        """The user's function. Raises ConfigError if it cannot be imported."""
        return foreign.load(self.reference, "data.dataset", "(split)")

    @cached_property
    def name(self) -> str:
        path, _, function = self.reference.rpartition(":")
        return f"{Path(path).name[:100]}:{function[:50]}@{self.function.sha256[:8]}"

    def read(self, split: str) -> Iterator[Example | Skipped]:
        """Yield the function's rows in order. Raises TrainerError if it fails, or if a required column is missing."""
        seen_keys: set[str] = set()
        columns_found = Columns(f"{self.reference} for split {split}", "Use these names for the columns.")
        for number, row in enumerate(self._rows(split)):
            raw = self._raw_example(number, row, columns_found)
            if raw is None:
                yield Skipped(questions.NO_OBJECT, f"row {number + 1}: {type(row.given).__name__}")
            elif raw.key in seen_keys:
                yield Skipped(folder.KEY_TWICE)
            else:
                seen_keys.add(raw.key)
                yield questions.example(self.name, split, raw)
        if columns_found.found:
            columns_found.check()

    def _rows(self, split: str) -> Iterator[Row]:
        function = self.function.call
        try:
            yield from rows(function(split), split)
        except (Exception, SystemExit) as error:
            fault = self.function.folder.fault(error)
            raise TrainerError(
                "data", f"{self.reference} failed for split {split} ({fault}). Fix the function."
            ) from error

    def _raw_example(self, number: int, row: Row, columns_found: Columns) -> RawExample | None:
        if isinstance(row.given, Example):
            return _stated(number, vars(row.given), row.given.pictures)
        if not isinstance(row.given, Mapping):
            return None
        item = columns.rename_keys(row.given)
        columns_found.add(item)
        again = None if row.again is None else lambda: folder.cell(columns.rename_keys(row.again()))  # type: ignore[misc]
        return _stated(number, item, pictures(folder.cell(item), self._roots, again))

    @cached_property
    def _roots(self) -> tuple[Path, ...]:
        own_folder = Path(self.reference.rpartition(":")[0]).expanduser().parent
        return (own_folder, *([self.root] if self.root else []))


def _stated(number: int, item: Mapping[str, Any], images: tuple[Any, ...]) -> RawExample:
    row_key = questions.identifier(item.get("key"))
    return RawExample(
        row_key or f"{number}-0",
        item.get("question"),
        item.get("answer"),
        images,
        questions.identifier(item.get("difficulty")),
        questions.identifier(item.get("reference")),
        place="" if row_key else f"row {number + 1}",
    )
