"""Baselines that show what images contribute: blank images, images of other examples, or no model at all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from trainer.datasets.example import Example, Picture
from trainer.datasets.images import encode_png

Baseline = Literal["blind", "shuffled", "majority"]
GREY = (128, 128, 128)
TYPE_WORDS = 3
"""Number of words at the beginning of a question that define its type, as in `how many red`."""


@dataclass(frozen=True)
class Blank:
    """A grey image with the size of another."""

    original: Picture

    @property
    def identity(self) -> str:
        return f"blank {self.original.identity}"

    def load(self) -> Image.Image:
        return Image.new("RGB", self.original.load().size, GREY)

    def encoded(self) -> bytes:
        return encode_png(self.load())


def examples_shown(baseline: Baseline | None, examples: Sequence[Example]) -> list[Example]:
    """Return the examples as they are shown to the model, in order."""
    if baseline == "blind":
        return [replace(e, pictures=tuple(Blank(picture) for picture in e.pictures)) for e in examples]
    if baseline == "shuffled":
        # One cycle through all examples: none keeps its own image, unless there is only one.
        order = np.random.default_rng(0).permutation(len(examples))
        others = dict(zip(order, np.roll(order, 1), strict=True))
        return [replace(e, pictures=examples[others[i]].pictures) for i, e in enumerate(examples)]
    return list(examples)


def question_type(question: str) -> str:
    """Return the first words of a question in lower case."""
    return " ".join(question.lower().split()[:TYPE_WORDS])


def majority(train: Sequence[Example], questions: Sequence[str]) -> list[int]:
    """Return for each question the most frequent answer to its type in `train`, or to all questions for a new type."""
    by_type: dict[str, Counter[int]] = defaultdict(Counter)
    for example in train:
        by_type[question_type(example.question)][example.answer] += 1
    overall = sum(by_type.values(), Counter[int]())
    answers = (by_type.get(question_type(question)) or overall for question in questions)
    # The smallest of equally frequent answers, so that the choice does not depend on the order of `train`.
    return [min(count, key=lambda answer: (-count[answer], answer)) for count in answers]
