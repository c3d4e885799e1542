"""What makes a row of any dataset a usable counting question. Knows nothing of files or layouts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from trainer.datasets.example import Example, Picture
from trainer.datasets.images import MISSING
from trainer.trace import NUMBER_WORDS

NOT_COUNTING = "not a counting question"
NO_COUNT = "answer is not a whole number"
BLANK = "question is blank"
REPEATED = "question_id was there before"
NO_OBJECT = "row is not an object"

_DIGITS = re.compile("[0-9]{1,4000}")
"""Python refuses to read longer numbers."""


@dataclass(frozen=True)
class Skipped:
    """A row that is not usable."""

    reason: str


@dataclass(frozen=True)
class Asked:
    """A question as a row states it, unchecked."""

    key: str
    question: object
    answer: object
    pictures: tuple[Picture, ...]
    difficulty: str | None = None
    reference: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)


def example(dataset: str, split: str, asked: Asked) -> Example | Skipped:
    """The example where text and answer are usable; the pictures are not looked at."""
    if not isinstance(asked.question, str) or not asked.question.strip():
        return Skipped(BLANK)
    answer = count(asked.answer)
    if answer is None:
        return Skipped(NO_COUNT)
    if not asked.pictures:
        return Skipped(MISSING)
    return Example(
        dataset=dataset,
        split=split,
        key=asked.key,
        question=asked.question,
        answer=answer,
        pictures=asked.pictures,
        reference=asked.reference,
        difficulty=asked.difficulty,
        meta=asked.meta,
    )


def count(answer: object) -> int | None:
    """The whole number of 0 or more that an annotation states, as a number, digits or a word up to twenty."""
    if isinstance(answer, str):
        text = answer.strip().lower().removesuffix(".")
        if _DIGITS.fullmatch(text):
            return int(text)
        return NUMBER_WORDS.index(text) if text in NUMBER_WORDS else None
    if isinstance(answer, bool) or not isinstance(answer, (int, float)):
        return None
    if isinstance(answer, float) and not answer.is_integer():
        return None
    return int(answer) if answer >= 0 else None


def difficulty(is_simple: object) -> str | None:
    """`simple`, `complex`, or None where the set does not say."""
    return {True: "simple", False: "complex"}[is_simple] if isinstance(is_simple, bool) else None


def identifier(value: object) -> str | None:
    """A row's own id as text."""
    return None if value is None else str(value)
