"""A question about one or more images, with its true count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from trainer.datasets import images


class Picture(Protocol):
    """A picture that is loaded when needed, so that no dataset is held decoded in memory."""

    @property
    def identity(self) -> str:
        """Equal for two pictures of a dataset if and only if they are the same picture."""

    def load(self) -> Image.Image:
        """Return the picture, RGB and upright, its longest edge at most `images.LONGEST_EDGE`. Raises PictureError."""

    def encoded(self) -> bytes:
        """Return a PNG, JPEG or WebP file for the store. Raises PictureError."""


@dataclass(frozen=True)
class Example:
    """A counting question.

    `key` is unique within `dataset` and `split` and does not depend on seeds or order, so that `id` identifies the same
    question in every run and every database. `split` is the split of the source.
    """

    dataset: str
    split: str
    key: str
    question: str
    answer: int
    pictures: tuple[Picture, ...] = field(repr=False)
    reference: str | None = None
    difficulty: str | None = None
    meta: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def id(self) -> str:
        return f"{self.dataset}/{self.split}/{self.key}"

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """The pictures as models take them (RGB, `images.fit`), read and decoded at every call."""
        return tuple(images.fit(picture.load()) for picture in self.pictures)
