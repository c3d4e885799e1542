"""Load processors without their video processor, which needs torchvision.

The class of a processor is replaced by a subclass of the same name, so that saved files name the original.

Read in transformers 5.23.0. Contract: tests/training/test_models.py.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from transformers import SmolVLMProcessor


class _Smolvlm(SmolVLMProcessor):
    """SmolVLM's processor requires a video processor and reads its number of frames."""

    video_processor = SimpleNamespace(num_frames=None, fps=None)

    def __init__(
        self, image_processor: Any, tokenizer: Any, image_seq_len: int = 169, chat_template: str | None = None
    ) -> None:
        super().__init__(image_processor, tokenizer, None, image_seq_len, chat_template)


@cache
def image_only(kind: type) -> Any:
    """Return a processor class without its video processor; a class without one is returned unchanged."""
    if "video_processor" not in kind.get_attributes():  # type: ignore[attr-defined]
        return kind

    class ImageOnly(_Smolvlm if kind is SmolVLMProcessor else kind):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name != "video_processor"]

    ImageOnly.__name__ = kind.__name__
    return ImageOnly
