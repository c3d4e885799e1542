"""Encodes every distinct picture once: a frozen vision tower's features, kept by the exact bytes of the pixels.

TRL feeds the G completions of a group, each with its own copy of the picture, through generation, reference and
training passes. Wraps `get_image_features` of one loaded model; knows nothing of trainers, prompts or text.
Understands the two layouts of pixels in use: Idefics3/SmolVLM (example, tile, channel, height, width) and Qwen-VL
(patch, value) with a grid an image.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import xxhash
from transformers.modeling_outputs import BaseModelOutputWithPooling

MEMORY_LIMIT = 512 * 1024**2
"""Bytes of features kept; the longest unused go first."""


class VisionCache:
    """Stands in for `backbone.get_image_features`; a tower that is being trained is never cached."""

    def __init__(self, backbone: Any, limit: int = MEMORY_LIMIT) -> None:
        self._backbone = backbone
        self._encode = backbone.get_image_features
        self._limit = limit
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._bytes = 0
        self.encoded = 0
        """Pictures that went through the tower."""
        self.asked = 0
        """Pictures that features were wanted of."""
        # `generate` looks at the signature for what to pass.
        functools.update_wrapper(self, self._encode)

    def __call__(self, pixel_values: torch.Tensor, layout: torch.Tensor | None = None, **kwargs: Any) -> Any:
        """As the model's own: `layout` is the pixels' mask (Idefics3) or the images' grids (Qwen-VL).

        Returns features in `pooler_output`, a tensor (tokens, width) for each example or image; one tensor object
        for identical pictures, so that callers may compare by identity.
        """
        layout = kwargs.pop("pixel_attention_mask", kwargs.pop("image_grid_thw", layout))
        pictures = _pictures(pixel_values, layout)
        if pictures is None or self._in_training():
            return self._encode(pixel_values, layout, **kwargs)
        keys = [_key(picture) for picture in pictures]
        missing = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in self._kept}
        found = {key: self._kept[key] for key in keys if key in self._kept}
        self.asked += len(keys)
        self.encoded += len(missing)
        for key, picture in missing.items():
            # Alone: among others the last digits differ, and a run that was resumed has others to encode.
            with torch.no_grad():
                found[key] = self._encode(*_batch(picture), **kwargs).pooler_output[0].detach()
        self._keep(found)
        return BaseModelOutputWithPooling(pooler_output=[found[key] for key in keys])

    def _in_training(self) -> bool:
        """True where any weight outside the language model may change: its features would be stale."""
        language = {id(p) for p in _language_model(self._backbone).parameters()}
        return any(p.requires_grad for p in self._backbone.parameters() if id(p) not in language)

    def _keep(self, found: dict[bytes, torch.Tensor]) -> None:
        for key, features in found.items():
            if key not in self._kept:
                self._kept[key] = features
                self._bytes += features.nbytes
            self._kept.move_to_end(key)
        while self._bytes > self._limit:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes


def install(model: Any) -> VisionCache | None:
    """Caches the image features of a `…ForConditionalGeneration`; None where the architecture is not understood."""
    backbone = model.model
    if not hasattr(backbone, "get_image_features") or _language_model(backbone) is None:
        return None
    backbone.get_image_features = VisionCache(backbone)
    return backbone.get_image_features


def _language_model(backbone: Any) -> Any:
    return getattr(backbone, "language_model", None) or getattr(backbone, "text_model", None)


_Picture = tuple[torch.Tensor, torch.Tensor | None]
"""Pixels of one example or image, with its mask or grid."""


def _pictures(pixel_values: torch.Tensor, layout: torch.Tensor | None) -> list[_Picture] | None:
    if pixel_values.dim() == 5:
        masks: Sequence[torch.Tensor | None] = [None] * len(pixel_values) if layout is None else list(layout)
        return list(zip(pixel_values, masks, strict=True))
    if pixel_values.dim() == 2 and layout is not None:
        sizes = layout.prod(-1).tolist()
        return list(zip(pixel_values.split(sizes), layout, strict=True))
    return None


def _batch(picture: _Picture) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A batch of one in the model's own layout."""
    pixels, layout = picture
    return pixels[None] if pixels.dim() == 4 else pixels, None if layout is None else layout[None]


def _key(picture: _Picture) -> bytes:
    digest = xxhash.xxh3_128()
    for tensor in picture:
        if tensor is not None:
            digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(tensor.detach().contiguous().view(torch.uint8).cpu().numpy())
    return digest.digest()
