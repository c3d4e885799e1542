"""A user's own set from code: `FILE.py:examples`, a function `examples(split)` that gives Examples or dicts.

A dict has `question`, `answer` and `image` or `images` (paths relative to the file, bytes, or PIL images); optional are
`key`, `difficulty` and `reference`. The function is called with train, val and test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from trainer import foreign
from trainer.datasets import files, folder, images, questions
from trainer.datasets.example import Example, Picture
from trainer.datasets.questions import Asked, Skipped
from trainer.errors import TrainerError


@dataclass(frozen=True)
class PythonFile:
    """`reference` is `FILE.py:function`."""

    reference: str
    splits: tuple[str, ...] = folder.SPLITS

    @cached_property
    def function(self) -> foreign.Foreign:
        """Raises ConfigError when it cannot be imported."""
        return foreign.load(self.reference, "data.dataset", "(split)")

    @cached_property
    def name(self) -> str:
        path, _, function = self.reference.rpartition(":")
        return f"{Path(path).name[:100]}:{function[:50]}@{self.function.sha256[:8]}"

    def read(self, split: str) -> Iterator[Example | Skipped]:
        """What the function gives, in its order. Raises TrainerError when it fails."""
        seen: set[str] = set()
        for number, item in enumerate(self._items(split)):
            asked = self._asked(number, item)
            if asked is None:
                yield Skipped(questions.NO_OBJECT)
            elif asked.key in seen:
                yield Skipped(folder.KEY_TWICE)
            else:
                seen.add(asked.key)
                yield questions.example(self.name, split, asked)

    def _items(self, split: str) -> list[Any]:
        function = self.function.call
        try:
            return list(function(split))
        except Exception as error:
            fault = f"{type(error).__name__}: {error}".rstrip(".")
            raise TrainerError("data", f"{self.reference} failed for split {split} ({fault}). Correct it.") from error

    def _asked(self, number: int, item: object) -> Asked | None:
        if isinstance(item, Example):
            item = {name: getattr(item, name) for name in ("key", "question", "answer", "pictures", "reference")} | {
                "difficulty": item.difficulty
            }
        if not isinstance(item, Mapping):
            return None
        given = item.get("images", [item["image"]] if item.get("image") is not None else [])
        pictures: tuple[Picture, ...] = item.get("pictures") or tuple(self._picture(each) for each in given)
        return Asked(
            questions.identifier(item.get("key")) or f"{number}-0",
            item.get("question"),
            item.get("answer"),
            pictures,
            questions.identifier(item.get("difficulty")),
            questions.identifier(item.get("reference")),
        )

    def _picture(self, given: object) -> Picture:
        if isinstance(given, Image.Image):
            return files.in_memory(images.encode_png(given))
        if isinstance(given, bytes):
            return files.in_memory(given)
        path = Path(self.reference.rpartition(":")[0]).expanduser().parent
        return folder.by_content(files.in_folder(path, str(given)))
