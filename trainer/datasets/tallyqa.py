"""Read TallyQA as published by its authors: train.json, test.json and a folder of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.datasets import files, questions
from trainer.datasets.example import Example
from trainer.datasets.questions import RawExample, Skipped
from trainer.datasets.tables.columns import Columns
from trainer.spec.errors import TrainerError


@dataclass(frozen=True)
class TallyQa:
    root: Path
    name: str = "tallyqa"
    needed: str = "train.json"

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in ("train", "test") if (self.root / f"{split}.json").is_file())

    def read(self, split: str) -> Iterator[Example | Skipped]:
        """Yield rows in file order. Raises TrainerError if the file is malformed."""
        path = self.root / f"{split}.json"
        rows = files.read_json(path)
        if not isinstance(rows, list):
            raise TrainerError("data", f"{path} has no list of questions. Download it again.")
        seen_keys: set[str] = set()
        columns_found = Columns(str(path), "Is it a copy of TallyQA?")
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                yield Skipped(questions.NO_OBJECT)
                continue
            columns_found.add(row)
            key = questions.identifier(row.get("question_id")) or f"{number}-0"
            if key in seen_keys:
                yield Skipped(questions.REPEATED)
                continue
            seen_keys.add(key)
            picture = files.in_folder(self.root / "images", row.get("image"))
            level = questions.difficulty(row.get("issimple"))
            yield questions.example(
                self.name, split, RawExample(key, row.get("question"), row.get("answer"), (picture,), level)
            )
        if columns_found.found:
            columns_found.check()
