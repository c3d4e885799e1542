"""What makes a row of any dataset a usable counting question. Knows nothing of files or layouts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from store.trace import NUMBER_WORDS
from trainer.datasets import values
from trainer.examples.example import Example, Picture
from trainer.examples.images import MISSING

NOT_COUNTING = "not a counting question"
NO_COUNT = "answer is not a whole number"
BLANK = "question is blank"
NO_TEXT = "question is not a text"
REPEATED = "question_id was there before"
NO_OBJECT = "row is not an object"

_DIGITS = re.compile("([0-9]{1,4000})(?:[.]0+|,0{1,2})?")
"""Python refuses to read longer numbers; `1,000` may be one or a thousand."""

_SCIENTIFIC = re.compile("[0-9]{1,30}(?:[.][0-9]{0,30})?e[+-]?[0-9]{1,2}")
"""As NumPy writes text."""


@dataclass(frozen=True)
class Skipped:
    """A row that is not usable: a reason to count by, and what is known of this row."""

    reason: str
    detail: str = field(default="", compare=False)


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
    if values.is_absent(asked.question):
        return Skipped(BLANK, asked.key)
    if not isinstance(asked.question, str):
        return Skipped(NO_TEXT, f"{asked.key}: {type(asked.question).__name__}")
    answer = count(asked.answer)
    if answer is None:
        return Skipped(NO_COUNT, f"{asked.key}: {str(asked.answer)[:60]}")
    if not asked.pictures:
        return Skipped(MISSING, asked.key)
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
    """The whole number of 0 or more that an annotation states: a number of any library, digits, a word up to twenty.

    `4.0` is one, since tables write counts so where one is absent; `4,0` is one where a comma parts decimals.
    """
    if isinstance(answer, str):
        text = answer.strip().lower().removesuffix(".")
        if match := _DIGITS.fullmatch(text):
            return int(match[1])
        if _SCIENTIFIC.fullmatch(text):
            return count(Decimal(text))
        return NUMBER_WORDS.index(text) if text in NUMBER_WORDS else None
    found = values.number(answer)
    if found is None or (isinstance(found, float) and not found.is_integer()):
        return None
    return int(found) if found >= 0 else None


def difficulty(is_simple: object) -> str | None:
    """`simple`, `complex`, or None where the set does not say."""
    return {True: "simple", False: "complex"}[is_simple] if isinstance(is_simple, bool) else None


def identifier(value: object) -> str | None:
    """A row's own id as text; None where it is absent."""
    return values.text(value)
