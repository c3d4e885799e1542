"""Decide which rows of a dataset are usable counting questions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from store.completions import gold
from store.trace import NUMBER_WORDS
from trainer.datasets.example import Example, Picture
from trainer.datasets.images import MISSING
from trainer.datasets.tables import values

NOT_COUNTING = "not a counting question"
NO_COUNT = "answer is not a whole number"
BLANK = "question is blank"
NO_TEXT = "question is not a text"
TOO_LARGE = "answer has more than nine digits"
REPEATED = "question_id is a duplicate"
NO_OBJECT = "row is not an object"

_DIGITS = re.compile("([0-9]{1,4000})(?:[.]0+|,0{1,2})?")
"""Python refuses to parse longer numbers. `1,000` is not a count, because it may mean 1 or 1000."""

_PLACEHOLDER = re.compile(r"\s*<\|?(?:image|img|image_pad|vision_start|vision_end)(?:[_ ]?[0-9]{1,3})?\|?>\s*")
"""The places of images in the text of chats; the prompt has its own, and another one would count as an image."""
_LARGEST = 10**9 - 1
"""The largest count that a completion can answer."""
_SCIENTIFIC = re.compile("[0-9]{1,30}(?:[.][0-9]{0,30})?e[+-]?[0-9]{1,2}")
"""Text as NumPy prints it."""


@dataclass(frozen=True)
class Skipped:
    """A row that is not usable, with a reason to count by and details of this row."""

    reason: str
    detail: str = field(default="", compare=False)


@dataclass(frozen=True)
class RawExample:
    """A question as stated in its row, not validated yet."""

    key: str
    question: object
    answer: object
    pictures: tuple[Picture, ...]
    difficulty: str | None = None
    reference: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    place: str = ""
    """The row's location, if its key does not tell it."""


def example(dataset: str, split: str, raw: RawExample) -> Example | Skipped:
    """Return the example if text and answer are usable; its images are not checked."""
    where = raw.place or raw.key
    if values.is_absent(raw.question):
        return Skipped(BLANK, where)
    if not isinstance(raw.question, str):
        return Skipped(NO_TEXT, f"{where}: {type(raw.question).__name__}")
    question = raw.question
    if _PLACEHOLDER.search(question):
        question = _PLACEHOLDER.sub(" ", question).strip()
    if not question:
        return Skipped(BLANK, where)
    answer = count(raw.answer)
    if answer is None:
        return Skipped(NO_COUNT, f"{where}: {str(raw.answer)[:60]}")
    if answer > _LARGEST:
        return Skipped(TOO_LARGE, f"{where}: {str(raw.answer)[:60]}")
    if not raw.pictures:
        return Skipped(MISSING, where)
    return Example(
        dataset=dataset,
        split=split,
        key=raw.key,
        question=question,
        answer=answer,
        pictures=raw.pictures,
        reference=raw.reference,
        difficulty=raw.difficulty,
        meta=raw.meta,
    )


def count(answer: object) -> int | None:
    """Return the non-negative integer in an annotation: a number of any library, digits, or a word up to twenty.

    `4.0` counts, because tables write integers like this if a value is missing; `4,0` counts with a decimal comma.
    Solutions may mark it: `<answer> 4 </answer>`, `\\boxed{4}`, `#### 4`.
    """
    if isinstance(answer, str):
        text = answer.strip().lower().removesuffix(".")
        if match := _DIGITS.fullmatch(text):
            return int(match[1])
        if _SCIENTIFIC.fullmatch(text):
            return count(Decimal(text))
        return NUMBER_WORDS.index(text) if text in NUMBER_WORDS else gold.marked_count(answer)
    value = values.number(answer)
    if value is None or (isinstance(value, float) and not value.is_integer()):
        return None
    return int(value) if value >= 0 else None


def difficulty(is_simple: object) -> str | None:
    """Return `simple`, `complex`, or None if the dataset does not tell."""
    return {True: "simple", False: "complex"}[is_simple] if isinstance(is_simple, bool) else None


def identifier(value: object) -> str | None:
    """Return a row's own id as text, or None if there is none."""
    return values.text(value)
