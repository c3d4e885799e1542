"""What a foreign dataset row asks: prompt, pictures, gold answer, other columns. Imports nothing of this project.

All contents of a row are converted to JSON and image files; a value that cannot be is described in words.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

GOLD = (
    *("answer", "answers", "solution", "gold", "gold_answer", "ground_truth", "correct_answer", "final_answer"),
    *("reference_answer", "target", "label", "labels", "count", "bbox", "boxes"),
)
"""Columns that may hold a gold answer, likeliest first; compared in any case."""
PICTURES = ("image", "images")
NEVER = ("prompt", *PICTURES, "completion", "chosen", "rejected", "messages", "completion_ids")
LONGEST_TEXT = 20_000
"""Most characters of a value that are kept."""
MOST_ENTRIES = 1000
DEEPEST = 8
MOST_PICTURE_BYTES = 32 * 2**20
LARGE = 1_500_000
"""Pixels above which a picture is stored as JPEG: a PNG would take seconds."""
FORMATS = {"PNG", "JPEG", "WEBP", "GIF"}
"""Largest image file that is kept unchanged, in bytes."""


class Asked(NamedTuple):
    """`key` is equal for equal content, in every run and database."""

    key: str
    question: str
    """The user's last words."""
    prompt: Any
    """A text, or messages without their pictures."""
    gold: Any
    columns: dict[str, Any]
    images: tuple[bytes, ...]
    """PNG, JPEG, WebP or GIF files."""


def asked(row: Mapping[str, Any], encode: Callable[[Any], bytes | None] | None = None) -> Asked:
    """Return what a row asks; `encode` makes a file of a picture, replacing `encoded`."""
    prompt = row.get("prompt", row.get("messages"))
    images = tuple(data for picture in _pictures(row, prompt) if (data := (encode or encoded)(picture)) is not None)
    gold_column = gold_name(row)
    gold = None if gold_column is None else plain(row[gold_column])
    columns = {str(name): plain(value) for name, value in row.items() if name not in (*NEVER, gold_column)}
    kept = plain(prompt)
    content = [kept, gold, columns, [hashlib.sha256(data).hexdigest() for data in images]]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
    return Asked(key, question(kept), kept, gold, columns, images)


def gold_name(row: Mapping[str, Any]) -> str | None:
    """Return the column of the gold answer, if any."""
    names = {str(name).lower(): name for name, value in row.items() if value is not None}
    return next((str(names[word]) for word in GOLD if word in names), None)


def count(gold: Any) -> int | None:
    """Return the gold answer if it is a whole number of at most nine digits."""
    if isinstance(gold, list) and len(gold) == 1:
        gold = gold[0]
    if isinstance(gold, bool):
        return None
    if isinstance(gold, float) and gold.is_integer():
        gold = int(gold)
    text = str(gold).strip() if isinstance(gold, int | str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


def question(prompt: Any) -> str:
    """Return the last user turn of messages as text; a text as it is."""
    if not isinstance(prompt, list):
        return prompt if isinstance(prompt, str) else ""
    turns = [turn for turn in prompt if isinstance(turn, dict)]
    asking = [turn for turn in turns if turn.get("role", turn.get("from")) in ("user", "human")] or turns
    return text_of(asking[-1].get("content", asking[-1].get("value"))) if asking else ""


def text_of(content: Any) -> str:
    """Return the texts of a message's content, one a line."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return text_of(content.get("text") or content.get("content") or "")
    return "\n".join(filter(None, map(text_of, content))) if isinstance(content, list) else ""


def _pictures(row: Mapping[str, Any], prompt: Any) -> list[Any]:
    """Return the pictures in the columns that TRL reads, else those in the prompt's messages."""
    for name in ("images", "image"):
        value = row.get(name)
        if value is not None and not (isinstance(value, list | tuple) and not value):
            return list(value) if isinstance(value, list | tuple) else [value]
    parts = [part for turn in _items(prompt) for part in _items(_get(turn, "content"))]
    return [picture for part in parts if (picture := _get(part, "image")) is not None]


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def encoded(picture: Any) -> bytes | None:
    """Return a picture (PIL, bytes, path, array or a cell of 🤗 Datasets) as a file; None if it is none."""
    try:
        from PIL import Image
    except ImportError:
        return None
    try:
        if isinstance(picture, Mapping):
            picture = picture.get("bytes") or picture.get("path") or picture.get("image")
        if isinstance(picture, str | Path):
            path = Path(picture)
            if not path.is_file() or path.stat().st_size > MOST_PICTURE_BYTES:
                return None
            picture = path.read_bytes()
        if isinstance(picture, bytes | bytearray | memoryview):
            data = bytes(picture)
            opened = Image.open(io.BytesIO(data))
            is_kept = opened.format in FORMATS and len(data) <= MOST_PICTURE_BYTES
            return data if is_kept else _written(opened)
        return _written(picture if isinstance(picture, Image.Image) else Image.fromarray(_as_array(picture)))
    except Exception:  # decoders answer damaged files with a dozen kinds of exception
        return None


def _as_array(picture: Any) -> Any:
    """Return an array of bytes, shape (height, width, channels)."""
    import numpy as np

    array = np.asarray(picture.detach().cpu() if hasattr(picture, "detach") else picture)
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8:
        top = 255.0 if array.dtype.kind == "f" and float(array.max(initial=0)) <= 1.0 else 1.0
        array = np.clip(array * top, 0, 255).astype(np.uint8)
    return array


def _as_array_of(image: Any) -> Any:
    import numpy as np

    return np.clip(np.asarray(image).astype("float64"), 0, 65535)


def _written(image: Any) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    if image.mode[0] in "IF":  # 16-bit pictures, or floats of any range
        deep = image.mode.startswith("I;16") or (image.mode == "I" and image.getextrema()[1] > 255)
        image = Image.fromarray(_as_array(image) if not deep else (_as_array_of(image) / 257).astype("uint8"))
    if image.width * image.height > LARGE:
        image.convert("RGB").save(buffer, "JPEG", quality=90)
    else:
        mode = image.mode if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA") else "RGB"
        image.convert(mode).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def plain(value: Any, depth: int = 0) -> Any:
    """Return the value as JSON: arrays as lists, pictures and bytes as words, long or deep values cut off."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}…"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value):,} bytes>"
    if depth >= DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {str(name): plain(each, depth + 1) for name, each in list(value.items())[:MOST_ENTRIES]}
    if isinstance(value, list | tuple | set | frozenset):
        entries = [plain(each, depth + 1) for each in list(value)[:MOST_ENTRIES]]
        return entries if len(value) <= MOST_ENTRIES else [*entries, "…"]
    if hasattr(value, "size") and hasattr(value, "mode") and hasattr(value, "getbands"):
        return f"<picture of {value.size[0]} × {value.size[1]}>"
    if callable(to_list := getattr(value, "tolist", None)):
        return plain(to_list(), depth + 1)
    return str(value)[:LONGEST_TEXT]
