"""Prepares every distinct picture once: TRL hands the G copies of a prompt's picture to the image processor, twice.

Wraps one image processor, which keeps its name and settings when it is saved; knows nothing of models or trainers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xxhash
from PIL import Image
from transformers.image_processing_utils import BatchFeature

MEMORY_LIMIT = 1024**3
"""Bytes of pixels that may be kept from one call to the next."""

_Key = tuple[bytes, ...]
"""The pictures of one example."""


class _Distinct:
    """Mixed in before an image processor's own class."""

    _latest: tuple[tuple[Any, ...], BatchFeature] | None = None
    """Arguments and result of the last call: TRL asks for the same pictures before and after generation."""

    def __call__(self, images: Any, *arguments: Any, **options: Any) -> BatchFeature:
        process = super().__call__  # type: ignore[misc]
        if arguments or not _nested(images):
            return process(images, *arguments, **options)
        keys = [tuple(map(_key, pictures)) for pictures in images]
        distinct = dict(zip(keys, images, strict=True))
        call = (tuple(distinct), repr(sorted(options.items(), key=lambda option: option[0])))
        if self._latest is not None and self._latest[0] == call:
            found = self._latest[1]
        else:
            found = process(list(distinct.values()), **options)
            self._latest = (call, found) if np.asarray(found["pixel_values"]).nbytes <= MEMORY_LIMIT else None
        place = {key: i for i, key in enumerate(distinct)}
        return _expanded(found, list(distinct), [place[key] for key in keys])

    def to_dict(self) -> dict[str, Any]:
        settings: dict[str, Any] = super().to_dict()  # type: ignore[misc]
        settings.pop("_latest", None)
        return settings


def install(image_processor: Any) -> None:
    """Makes an image processor prepare identical pictures of a batch once; twice is as good as once."""
    own = type(image_processor)
    if not issubclass(own, _Distinct):
        image_processor.__class__ = type(own.__name__, (_Distinct, own), {"__module__": own.__module__})


def _nested(images: Any) -> bool:
    """A list of the pictures of each example."""
    return isinstance(images, list) and all(
        isinstance(pictures, list) and pictures and all(isinstance(picture, Image.Image) for picture in pictures)
        for pictures in images
    )


def _key(picture: Image.Image) -> bytes:
    digest = xxhash.xxh3_128(f"{picture.mode} {picture.size}".encode())
    digest.update(picture.tobytes())
    return digest.digest()


def _expanded(found: BatchFeature, distinct: Sequence[_Key], places: Sequence[int]) -> BatchFeature:
    """The features of the examples at `places`; each value is a row an example, or packed by images with grids."""
    if len(distinct) == len(places):
        return BatchFeature(dict(found))
    grids = found.get("image_grid_thw")
    if grids is None:
        return BatchFeature({name: _rows(value, places) for name, value in found.items()})
    counts = [len(pictures) for pictures in distinct]
    starts = np.cumsum([0, *counts])
    images = [i for place in places for i in range(starts[place], starts[place + 1])]
    sizes = [int(np.prod(np.asarray(grid))) for grid in grids]
    patches = np.cumsum([0, *sizes])
    chosen = [i for image in images for i in range(patches[image], patches[image + 1])]
    return BatchFeature(
        {name: _rows(value, chosen if name == "pixel_values" else images) for name, value in found.items()}
    )


def _rows(value: Any, indices: Sequence[int]) -> Any:
    if isinstance(value, torch.Tensor):
        return value[torch.tensor(indices)]
    if isinstance(value, np.ndarray):
        return value[np.asarray(indices)]
    return [value[i] for i in indices]
