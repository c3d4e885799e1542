"""A question about one or more images, with its true count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from trainer.datasets import images


class Picture(Protocol):
    """An image that is loaded on demand, so that no decoded dataset is kept in memory."""

    @property
    def identity(self) -> str:
        """Equal for two images of a dataset if and only if they are the same image."""

    def load(self) -> Image.Image:
        """Return the image, RGB, upright, with a longest edge of at most `images.LONGEST_EDGE`. Raises PictureError."""

    def encoded(self) -> bytes:
        """Return the bytes of a PNG, JPEG or WebP file for the store. Raises PictureError."""


@dataclass(frozen=True)
class Example:
    """A counting question.

    `key` is unique within `dataset` and `split`, and does not depend on seeds or order, so that `id` identifies the
    same question in every run and database. `split` is the split of the source.
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
        """The images as models take them (RGB, `images.fit`), read and decoded at every access."""
        return tuple(images.fit(picture.load()) for picture in self.pictures)
