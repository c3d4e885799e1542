"""Encode every distinct picture once: cache a frozen vision tower's features by the exact bytes of the pixels.

Of a tower that is trained, the features are shared within a pass, with gradients, and never kept.

TRL passes the G completions of a group, each with its own copy of the picture, through generation, reference and
training passes. The module wraps `get_image_features` of one loaded model. A picture is the unit that the tower encodes
independently of the rest of the batch: an example with all its tiles (Idefics3, SmolVLM), an image (Qwen-VL,
LLaVA-OneVision) or a tile (InternVL, Gemma 3).

Read in transformers 5.23.0. Contract: tests/training/test_architectures.py.
"""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import xxhash
from transformers.modeling_outputs import BaseModelOutputWithPooling

MEMORY_LIMIT = 512 * 1024**2
"""Most bytes of features; the least recently used are removed first."""

Arguments = dict[str, Any]
"""The arguments of `get_image_features`, by name."""
Features = tuple[torch.Tensor, ...]
"""A picture's (tokens, width), followed by Qwen3-VL's features for its first layers in the same shape.

Identical pictures share one object, so that callers may compare by identity.
"""


@dataclass
class Encoded(BaseModelOutputWithPooling):
    """A model's own type of output, for its forward, with the features from which it was made."""

    deepstack_features: list[list[torch.Tensor]] | None = None
    pictures: list[Features] | None = None


class VisionCache:
    """Replaces `backbone.get_image_features`."""

    def __init__(self, backbone: Any, limit: int = MEMORY_LIMIT) -> None:
        self._backbone = backbone
        self._encode = backbone.get_image_features
        self._limit = limit
        self._kept: OrderedDict[bytes, Features] = OrderedDict()
        self._bytes = 0
        self._is_stacked = False
        """Whether the model's features are one tensor (pictures, tokens, width) rather than a list."""
        self.parameters = [name for name in inspect.signature(self._encode).parameters if name != "kwargs"]
        self.encoded = 0
        """Number of pictures that went through the tower."""
        self.requested = 0
        """Number of pictures whose features were requested."""
        # `generate` reads the signature to decide what to pass.
        functools.update_wrapper(self, self._encode)

    def __call__(self, *positional: Any, **keywords: Any) -> Any:
        """Return an Encoded, or the model's own output if its pictures cannot be separated."""
        arguments = dict(zip(self.parameters, positional, strict=False)) | keywords
        pictures = None if _needs_more_outputs(arguments) else _pictures(arguments)
        if not pictures:
            return self._encode(**arguments)
        keys = [_key(picture) for picture in pictures]
        is_frozen = self._is_frozen()
        features = {key: self._kept[key] for key in keys if is_frozen and key in self._kept}
        missing = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in features}
        self.requested += len(keys)
        self.encoded += len(missing)
        for key, picture in missing.items():
            # One at a time: batching changes the last digits, and a resumed run encodes other batches.
            with torch.no_grad() if is_frozen else nullcontext():
                features[key] = self._features(self._encode(**picture))
        if is_frozen:
            self._keep(features)
        return self.joined([features[key] for key in keys])

    def joined(self, pictures: list[Features]) -> Encoded:
        """Return the pictures' features in the shape that the model's forward expects."""
        pooled, *deeper = ([*layer] for layer in zip(*pictures, strict=True))
        return Encoded(
            pooler_output=torch.stack(pooled) if self._is_stacked else pooled,
            deepstack_features=deeper or None,
            pictures=pictures,
        )

    def _features(self, output: Any) -> Features:
        self._is_stacked = isinstance(output.pooler_output, torch.Tensor)
        layers = [output.pooler_output, *(getattr(output, "deepstack_features", None) or ())]
        return tuple(layer[0] for layer in layers)

    def _is_frozen(self) -> bool:
        """Return whether no weight outside the language model is trained or part of an adapter, which can be off."""
        language = {id(p) for p in language_model(self._backbone).parameters()}
        return not any(
            id(p) not in language and (p.requires_grad or ".lora_" in name)
            for name, p in self._backbone.named_parameters()
        )

    def _keep(self, new: dict[bytes, Features]) -> None:
        for key, features in new.items():
            if key not in self._kept:
                self._kept[key] = features
                self._bytes += _size(features)
            self._kept.move_to_end(key)
        while self._bytes > self._limit:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)


def install(model: Any) -> VisionCache:
    """Cache the image features of a `…ForConditionalGeneration` of one of `prefix_sharing.PROVEN`."""
    model.model.get_image_features = VisionCache(model.model)
    return model.model.get_image_features


def language_model(backbone: Any) -> Any:
    return getattr(backbone, "language_model", None) or backbone.text_model


def _needs_more_outputs(arguments: Arguments) -> bool:
    """Return whether outputs are requested that an Encoded lacks: hidden states, attentions, a tuple."""
    return arguments.get("return_dict") is False or any(
        name.startswith("output_") and value for name, value in arguments.items()
    )


def _pictures(arguments: Arguments) -> list[Arguments] | None:
    """Return separate arguments for each picture; None if they cannot be separated.

    Tensors have one row per picture, except that Qwen-VL's pixels are rows of patches, counted by its grids.
    """
    grids = arguments.get("image_grid_thw")
    # LLaVA-OneVision cuts a picture into patches only if its prompt has no other.
    alone = arguments.get("batch_num_images")
    if alone is not None and any(int(count) != 1 for count in alone):
        return None
    present = {name: value for name, value in arguments.items() if value is not None and name != "batch_num_images"}
    sizes: Any = 1 if grids is None else grids.prod(-1).tolist()
    tensors = {
        name: value.split(sizes if name == "pixel_values" else 1)
        for name, value in present.items()
        if isinstance(value, torch.Tensor)
    }
    if len({len(rows) for rows in tensors.values()}) != 1 or not len(arguments["pixel_values"]):
        return None
    same = {name: value for name, value in present.items() if name not in tensors} | {"return_dict": True}
    return [same | dict(zip(tensors, rows, strict=True)) for rows in zip(*tensors.values(), strict=True)]


def _key(picture: Arguments) -> bytes:
    digest = xxhash.xxh3_128()
    for name, value in sorted(picture.items()):
        if isinstance(value, torch.Tensor):
            digest.update(str((name, value.dtype, tuple(value.shape))).encode())
            digest.update(value.detach().contiguous().view(torch.uint8).cpu().numpy())
        else:
            digest.update(f"{name}={value!r}".encode())
    return digest.digest()


def _size(features: Sequence[torch.Tensor]) -> int:
    return sum(layer.nbytes for layer in features)
