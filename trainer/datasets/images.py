"""Encoding pictures for the store. Knows nothing of datasets."""

from __future__ import annotations

import io

from PIL import Image


def encode_png(image: Image.Image) -> bytes:
    """PNG bytes; the same picture gives the same bytes, and so the same SHA-256."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()
