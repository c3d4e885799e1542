"""Process every distinct image once; TRL passes the G copies of a prompt's image to the image processor, twice.

Wraps one image processor, which keeps its name and settings when it is saved.

Read in transformers 5.23.0. Contract: tests/training/test_sharing.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xxhash
from PIL import Image
from transformers.image_processing_utils import BatchFeature

MEMORY_LIMIT = 1024**3
"""Bytes of pixels kept from one call to the next."""
BY_EXAMPLE = ("Idefics3ImageProcessor", "SmolVLMImageProcessor")
"""Image processors that return one row per example, padded to the largest number of tiles."""
BY_IMAGE = ("Gemma3ImageProcessor", "GotOcr2ImageProcessor", "LlavaOnevisionImageProcessor", "Qwen2VLImageProcessor")
"""Image processors that return one or more rows per image, in order; InternVL's is GotOcr2's."""

_Key = tuple[bytes, ...]
"""The images of one example."""


class _Distinct:
    """A mixin for an image processor's own class."""

    _latest: tuple[tuple[Any, ...], BatchFeature] | None = None
    """Arguments and result of the last call, because TRL processes the same images before and after generation."""

    def __call__(self, images: Any, *arguments: Any, **options: Any) -> BatchFeature:
        process = super().__call__  # type: ignore[misc]
        if arguments or not _nested(images):
            return process(images, *arguments, **options)
        keys = [tuple(map(_key, pictures)) for pictures in images]
        distinct = dict(zip(keys, images, strict=True))
        call = (tuple(distinct), repr(sorted(options.items(), key=lambda option: option[0])))
        if self._latest is not None and self._latest[0] == call:
            features = self._latest[1]
        else:
            features = process(list(distinct.values()), **options)
            self._latest = (call, features) if np.asarray(features["pixel_values"]).nbytes <= MEMORY_LIMIT else None
        place = {key: i for i, key in enumerate(distinct)}
        places = [place[key] for key in keys]
        if len(distinct) == len(places):
            return BatchFeature(dict(features))
        if _name(type(self)) in BY_EXAMPLE:
            return BatchFeature({name: _rows(value, places) for name, value in features.items()})
        return _by_image(features, [len(pictures) for pictures in distinct], places)

    def to_dict(self) -> dict[str, Any]:
        settings: dict[str, Any] = super().to_dict()  # type: ignore[misc]
        settings.pop("_latest", None)
        return settings


def install(image_processor: Any) -> None:
    """Make a supported image processor process identical images in a batch once; repeated calls have no effect."""
    processor_class = type(image_processor)
    if _name(processor_class) in (*BY_EXAMPLE, *BY_IMAGE) and not issubclass(processor_class, _Distinct):
        image_processor.__class__ = type(
            processor_class.__name__, (_Distinct, processor_class), {"__module__": processor_class.__module__}
        )


def _name(kind: type) -> str:
    """Return the class name without the suffix for its backend."""
    return kind.__name__.removesuffix("Pil").removesuffix("Fast")


def _nested(images: Any) -> bool:
    """Return whether images are given as one list per example."""
    return isinstance(images, list) and all(
        isinstance(pictures, list) and pictures and all(isinstance(picture, Image.Image) for picture in pictures)
        for pictures in images
    )


def _key(picture: Image.Image) -> bytes:
    digest = xxhash.xxh3_128(f"{picture.mode} {picture.size}".encode())
    digest.update(picture.tobytes())
    if picture.mode == "P":
        digest.update(bytes(picture.getpalette() or ()))
    return digest.digest()


def _by_image(features: BatchFeature, counts: Sequence[int], places: Sequence[int]) -> BatchFeature:
    """Return the features of the examples at `places`, which have `counts` images each."""
    images = _chosen(counts, places)
    of = {"pixel_values": _chosen(_sizes(features, sum(counts)), images), "batch_num_images": places}
    return BatchFeature({name: _rows(value, of.get(name, images)) for name, value in features.items()})


def _sizes(features: BatchFeature, images: int) -> list[int]:
    """Return the rows of `pixel_values` of each image: Qwen-VL's patches, InternVL's tiles, Gemma 3's crops, or one."""
    if "image_grid_thw" in features:
        return [int(np.prod(np.asarray(grid))) for grid in features["image_grid_thw"]]
    if "num_patches" in features:
        return [int(count) for count in features["num_patches"]]
    return [1 + int(count) for count in features.get("num_crops", [0] * images)]


def _chosen(sizes: Sequence[int], places: Sequence[int]) -> list[int]:
    """Return the row indices of the units at `places`, where the units have `sizes` rows each."""
    starts = np.cumsum([0, *sizes])
    return [row for place in places for row in range(starts[place], starts[place + 1])]


def _rows(value: Any, indices: Sequence[int]) -> Any:
    if isinstance(value, torch.Tensor):
        return value[torch.tensor(indices)]
    if isinstance(value, np.ndarray):
        return value[np.asarray(indices)]
    return [value[i] for i in indices]
