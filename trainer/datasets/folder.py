"""A user's own set: a folder with `examples.jsonl` or `examples.csv`, and images below it.

Fields: `question`, `answer`, and `image` (a path relative to the folder) or, in JSONL, a list `images`; optional are
`key`, `split` (train, val or test), `difficulty` and `reference`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainer.datasets import files, questions
from trainer.datasets.example import Example, Picture
from trainer.datasets.files import EncodedPicture
from trainer.datasets.images import PictureError
from trainer.datasets.questions import Asked, Skipped
from trainer.errors import TrainerError

SPLITS = ("train", "val", "test")
NO_SPLIT = "split is none of train, val and test"
KEY_TWICE = "key was there before"


@dataclass(frozen=True)
class Folder:
    root: Path

    @cached_property
    def list_file(self) -> Path:
        """Raises TrainerError when there is none."""
        for name in ("examples.jsonl", "examples.csv"):
            if (self.root / name).is_file():
                return self.root / name
        raise TrainerError("data", f"{self.root} holds no examples.jsonl and no examples.csv. Write one of them.")

    @cached_property
    def name(self) -> str:
        """Another list is another dataset: a stored example is never taken for one of a changed list."""
        version = files.digest(self.list_file.read_bytes())[:8]
        return f"folder:{self.root.resolve().name[:100]}@{version}"

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        if self.list_file.suffix == ".jsonl":
            return [files.json_object(line) for line in files.json_lines(self.list_file)]
        text = files.read_text(self.list_file)
        try:
            return list(csv.DictReader(text.splitlines(keepends=True)))
        except csv.Error as error:
            raise TrainerError("data", f"{self.list_file} is not valid CSV ({error}). Correct it.") from None

    @property
    def splits(self) -> tuple[str, ...]:
        given = {_split(row) for row in self.rows}
        return tuple(split for split in SPLITS if split in given)

    def read(self, split: str) -> Iterator[Example | Skipped]:
        """Rows in file order; one whose split cannot be read is counted with the first split."""
        seen: set[str] = set()
        for number, row in enumerate(self.rows):
            own = _split(row)
            if own not in SPLITS and split == self.splits[0]:
                yield Skipped(NO_SPLIT)
            if own != split:
                continue
            key = questions.identifier(row.get("key")) or f"{number}-0"
            if key in seen:
                yield Skipped(KEY_TWICE)
                continue
            seen.add(key)
            yield questions.example(self.name, split, self._asked(key, row))

    def _asked(self, key: str, row: dict[str, Any]) -> Asked:
        names = row.get("images") if isinstance(row.get("images"), list) else [row.get("image")]
        pictures: tuple[Picture, ...] = tuple(by_content(files.in_folder(self.root, name)) for name in names or [])
        return Asked(
            key,
            row.get("question"),
            row.get("answer"),
            pictures,
            questions.identifier(row.get("difficulty") or None),
            questions.identifier(row.get("reference") or None),
        )


def _split(row: dict[str, Any]) -> object:
    return row.get("split") or SPLITS[0]


def by_content(picture: EncodedPicture) -> EncodedPicture:
    """The same picture known by its bytes: a copy under another name must not get into another role."""
    try:
        return EncodedPicture(files.digest(picture.read()), picture.read)
    except PictureError:
        return picture
