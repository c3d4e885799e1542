"""Read TDIUC and VQA v2: JSON files of questions and annotations, joined by question_id, with COCO's images.

The two datasets differ in their paths and in how they mark counting questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.datasets import files, questions
from trainer.datasets.example import Example
from trainer.datasets.questions import RawExample, Skipped
from trainer.datasets.tables.columns import Columns
from trainer.spec.errors import TrainerError

NO_ANNOTATION = "question has no annotation"
_OTHER = object()
"""Replaces the answer to a question that does not ask for a count."""


@dataclass(frozen=True)
class CocoVqa:
    """Paths are patterns with `{split}`, relative to `root`."""

    name: str
    root: Path
    questions: str
    annotations: str
    images: str
    counts: Callable[[dict[str, Any]], bool]
    answer: Callable[[dict[str, Any]], object]

    @property
    def needed(self) -> str:
        return self.questions.format(split="train")

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(s for s in ("train", "val") if (self.root / self.questions.format(split=s)).is_file())

    def read(self, split: str) -> Iterator[Example | Skipped]:
        """Yield rows in the order of the questions file. Raises TrainerError if a file is malformed."""
        answers = self._answers(split)
        folder = self.root / self.images.format(split=split)
        seen_keys: set[str] = set()
        path = self.root / self.questions.format(split=split)
        for row in _rows(path, "questions", ("question_id", "question", "image_id")):
            key = questions.identifier(row.get("question_id"))
            if key is None or key not in answers:
                yield Skipped(NO_ANNOTATION)
            elif key in seen_keys:
                yield Skipped(questions.REPEATED)
            elif answers[key] is _OTHER:
                yield Skipped(questions.NOT_COUNTING)
            else:
                picture = files.in_folder(folder, _file_name(split, row.get("image_id")))
                yield questions.example(
                    self.name, split, RawExample(key, row.get("question"), answers[key], (picture,))
                )
            if key is not None:
                seen_keys.add(key)

    def _answers(self, split: str) -> dict[str, object]:
        """Return the answer, or _OTHER, by question_id."""
        answers: dict[str, object] = {}
        for row in _rows(self.root / self.annotations.format(split=split), "annotations", ("question_id",)):
            key = questions.identifier(row.get("question_id"))
            if key is not None:
                answers.setdefault(key, self.answer(row) if self.counts(row) else _OTHER)
        return answers


def _rows(path: Path, field: str, needed: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects in the list `field`; an entry of another kind becomes an empty object."""
    content = files.read_json(path)
    rows = content.get(field) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise TrainerError("data", f"{path} has no list `{field}`. Download it again.")
    columns = Columns(f"{path}, {field}", "Download it again.")
    for row in rows:
        columns.add(row if isinstance(row, dict) else {})
    if columns.found:
        columns.check([(name,) for name in needed])
    for row in rows:
        yield row if isinstance(row, dict) else {}


def _file_name(split: str, image_id: object) -> str | None:
    number = str(image_id)
    return f"COCO_{split}2014_{number.zfill(12)}.jpg" if number.isascii() and number.isdigit() else None


def tdiuc(root: Path) -> CocoVqa:
    """Return TDIUC in `root`, which is its folder or the one that contains it."""

    def answer(row: dict[str, Any]) -> object:
        answers = row.get("answers")
        first = answers[0] if isinstance(answers, list) and answers else None
        return first.get("answer") if isinstance(first, dict) else None

    return CocoVqa(
        "tdiuc",
        root / "TDIUC" if (root / "TDIUC").is_dir() else root,
        "Questions/OpenEnded_mscoco_{split}2014_questions.json",
        "Annotations/mscoco_{split}2014_annotations.json",
        "Images/{split}2014",
        lambda row: row.get("question_type") == "counting",
        answer,
    )


def vqav2(root: Path) -> CocoVqa:
    return CocoVqa(
        "vqav2",
        root,
        "v2_OpenEnded_mscoco_{split}2014_questions.json",
        "v2_mscoco_{split}2014_annotations.json",
        "{split}2014",
        lambda row: str(row.get("question_type")).startswith("how many"),
        lambda row: row.get("multiple_choice_answer"),
    )
