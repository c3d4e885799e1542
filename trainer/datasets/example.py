"""One question about one or more images, with its true count. Knows nothing of models, prompts or files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Example:
    """A counting question.

    `key` is unique within `dataset` and `split` and does not depend on seeds or order, so that
    `id` names the same question in every run and every database.
    """

    dataset: str
    split: str
    key: str
    question: str
    answer: int
    images: tuple[Image.Image, ...] = field(repr=False)
    reference: str | None = None
    difficulty: str | None = None
    meta: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def id(self) -> str:
        return f"{self.dataset}/{self.split}/{self.key}"
