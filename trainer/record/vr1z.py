"""Record training runs of your own scripts for the Vision-R1-Zero dashboard. Copy this one file next to your script.

It needs only Python 3.9 and the standard library, and uses Pillow, torch and transformers if they are installed. To
record a trainer from TRL or transformers, add two lines; its own `report_to` stays as it is:

    import vr1z
    run = vr1z.record(trainer, name="my run")        # before trainer.train()

To record your own training loop:

    with vr1z.start("my run", config={"lr": 1e-5}) as run:
        for step in range(1, 101):
            ...
            run.group(step, prompt, [image], completions, rewards={"right": [1.0, 0.0]}, answer="4")
            run.log(step, {"loss": loss})
            if run.should_stop:                      # somebody pressed Stop
                break

A script for Weights & Biases also runs with `import vr1z as wandb`: its `init`, `log`, `config`, `summary` and `finish`
are recorded, and the log says what is not.

Every record is first written to a folder, the journal: one line of JSON per record and one file per image
(`docs/journal.md` of the project describes the format). From there it is sent to the dashboard whenever the dashboard
can be reached. Set VR1Z_URL to the dashboard's address, and VR1Z_TOKEN to its token or VR1Z_TOKEN_FILE to a file that
holds it. To import later what was not delivered, run `python -m store sync FOLDER`. Recording never ends, delays or
changes training; the logger `vr1z` reports each problem once.
"""

from __future__ import annotations

import argparse
import atexit
import base64
import dataclasses
import hashlib
import http.client
import inspect
import io
import json
import logging
import math
import os
import platform
import re
import secrets
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, TypeVar, overload

__all__ = ["Run", "init", "record", "start"]

JOURNAL_VERSION = 1
URL = "http://127.0.0.1:8501"
"""Default address of the dashboard; VR1Z_URL overrides it."""
TOKEN_FILE = ""
"""Default path of a file with the dashboard's token; VR1Z_TOKEN and VR1Z_TOKEN_FILE override it."""

LINES, IMAGES, DELIVERED = "journal.jsonl", "images", "delivered.json"
PREFIX = "vr1z-"
"""Prefix of a journal's folder name, followed by the run's uid."""
MAX_BUFFERED_BYTES = 64 * 2**20
"""Most bytes that may wait to be written to disk; records beyond that are dropped and counted."""
MAX_REQUEST_BYTES = 4 * 2**20
"""Most bytes of lines in one request, unless a single line is longer."""
MAX_EVALUATION_ROWS = 500
"""Most answers in one evaluation record."""
HEARTBEAT_SECONDS = 2.0
RETRY_SECONDS = 2.0
TIMEOUT_SECONDS = 20.0
GREET_SECONDS = 2.0
"""Seconds to wait for the dashboard when training starts, so that a wrong address or token is reported at once."""
QUIET_SECONDS = 60.0
"""Seconds without a write after which a script on another machine counts as ended."""
END_SECONDS = 10.0
"""Seconds to wait at the end of training until every record is delivered, or at least on disk."""

logger = logging.getLogger("vr1z")
Value = TypeVar("Value")


# ---- Values: convert a script's values to JSON and image files ------------------------------------------------------

GOLD_COLUMNS = (
    *("answer", "answers", "solution", "gold", "gold_answer", "ground_truth", "correct_answer", "final_answer"),
    *("reference_answer", "target", "label", "labels", "count", "bbox", "boxes"),
)
"""Columns that may hold a gold answer, likeliest first; case is ignored."""
IMAGE_COLUMNS = ("image", "images")
EXCLUDED_COLUMNS = ("prompt", *IMAGE_COLUMNS, "completion", "chosen", "rejected", "messages", "completion_ids")
MAX_TEXT_LENGTH = 20_000
"""Most characters kept of a value."""
MAX_COMPLETION_LENGTH = 4_000_000
MAX_NAME_LENGTH = 200
"""Most characters of a name; longer names are cut and end in a hash, so that they stay distinct."""
MAX_NUMBER = 1e100
"""Largest magnitude that a journal holds; larger numbers are treated as infinite."""
MAX_COUNT = 2**31 - 1
MAX_ENTRIES = 1000
MAX_DEPTH = 8
MAX_IMAGE_BYTES = 32 * 2**20
"""Most bytes of an image file that is kept unchanged."""
LARGE_IMAGE_PIXELS = 1_500_000
"""Pixels above which an image is stored as JPEG, because encoding a PNG would take seconds."""
FORMATS = {"PNG", "JPEG", "WEBP", "GIF"}


class Question(NamedTuple):
    """The question in a dataset row. Rows with equal content have equal keys, in every run and database."""

    key: str
    question: str
    """The last user turn, as text."""
    prompt: Any
    """A text, or messages without their images."""
    gold: Any
    columns: dict[str, Any]
    images: tuple[bytes, ...]
    """PNG, JPEG, WebP or GIF files."""
    missing_image_reason: str = ""
    """Why an image is missing, if one is; otherwise empty."""


def question_of_row(row: Mapping[str, Any], encode: Callable[[Any], bytes | None] | None = None) -> Question:
    """Return the question in a dataset row. `encode` turns an image into a file's bytes (default: `encode_image`)."""
    prompt = row.get("prompt", row.get("messages"))
    values = _pictures(row, prompt)
    files = [(encode or encode_image)(picture) for picture in values]
    images = tuple(data for data in files if data is not None)
    missing_image_reason = next(
        (_unreadable_reason(picture) for picture, data in zip(values, files) if data is None), ""
    )
    gold_column = gold_name(row)
    gold = None if gold_column is None else plain(row[gold_column])
    columns = {str(name): plain(value) for name, value in row.items() if name not in (*EXCLUDED_COLUMNS, gold_column)}
    prompt_json = plain(prompt)
    content = [prompt_json, gold, columns, [hashlib.sha256(data).hexdigest() for data in images]]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
    return Question(
        key,
        question_text(prompt_json) or _shortened(prompt_json),
        prompt_json,
        gold,
        columns,
        images,
        missing_image_reason,
    )


def _shortened(prompt: Any) -> str:
    """Return a prompt without text, such as one of token ids, as JSON."""
    has_turns = any(isinstance(turn, dict) for turn in _items(prompt))
    return "" if prompt is None or has_turns else json.dumps(prompt)[:MAX_NAME_LENGTH]


def gold_name(row: Mapping[str, Any]) -> str | None:
    """Return the name of the column with the gold answer, if any."""
    names = {str(name).lower(): name for name, value in row.items() if not is_absent(value)}
    return next((str(names[candidate]) for candidate in GOLD_COLUMNS if candidate in names), None)


def question_text(prompt: Any) -> str:
    """Return the last user turn of a prompt as text. A prompt without messages is returned as text."""
    turns = [turn for turn in (prompt if isinstance(prompt, list) else [prompt]) if isinstance(turn, dict)]
    if not turns:
        return text_of(prompt)
    user_turns = [turn for turn in turns if turn.get("role", turn.get("from")) in ("user", "human")] or turns
    return text_of(user_turns[-1].get("content", user_turns[-1].get("value")))


def text_of(content: Any) -> str:
    """Return the text parts of a message's content, one per line."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return text_of(content.get("text") or content.get("content") or "")
    return "\n".join(filter(None, map(text_of, content))) if isinstance(content, list) else ""


def completion_text(completion: Any) -> str:
    """Return a completion as text: one message's content, or all turns of several, tool calls included."""
    if completion is None or isinstance(completion, str):
        return (completion or "")[:MAX_COMPLETION_LENGTH]
    turns = [turn for turn in _items([completion] if isinstance(completion, Mapping) else completion)]
    if len(turns) == 1 and isinstance(turns[0], Mapping) and not turns[0].get("tool_calls"):
        return text_of(plain(turns[0].get("content")))
    return "\n".join(map(_turn_text, turns)) if turns else str(completion)


def _turn_text(turn: Any) -> str:
    if not isinstance(turn, Mapping):
        return str(turn)
    calls = [json.dumps(plain(call)) for call in _items(turn.get("tool_calls"))]
    return "\n".join([f"{turn.get('role', '')}: {text_of(plain(turn.get('content')))}".strip(), *calls])


def _pictures(row: Mapping[str, Any], prompt: Any) -> list[Any]:
    """Return the images in the columns that TRL reads, or else those in the prompt's messages."""
    for name in ("images", "image"):
        value = row.get(name)
        if value is not None and not (isinstance(value, (list, tuple)) and not value):
            return _image_list(value)
    turns = [prompt] if isinstance(prompt, Mapping) else _items(prompt)
    parts = [part for turn in turns for part in _items(_get(turn, "content"))]
    images = (_get(part, "image") if _get(part, "image") is not None else _get(part, "image_url") for part in parts)
    return [picture for picture in images if picture is not None]


def _image_list(value: Any) -> list[Any]:
    """Return the images in a list of any depth, an iterator or a stack of arrays, or a single image in a list."""
    if isinstance(value, (list, tuple)):
        return [picture for item in value if item is not None for picture in _image_list(item)]
    is_iterator = hasattr(value, "__next__") and not hasattr(value, "read")
    return list(value) if is_iterator or getattr(value, "ndim", 0) == 4 else [value]


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _unwrap_image(picture: Any) -> Any:
    """Unwrap a cell of 🤗 Datasets or a part of a message: return an image, bytes or a path."""
    if isinstance(picture, Mapping):
        picture = next((picture[name] for name in ("bytes", "path", "image", "url") if picture.get(name)), None)
    if callable(getattr(picture, "read", None)):
        position = picture.tell()
        data = picture.read()
        picture.seek(position)
        return data
    if not isinstance(picture, str):
        return picture
    if picture.startswith("data:"):
        return base64.b64decode(picture.partition(",")[2])
    if picture.startswith("file:"):
        return urllib.request.url2pathname(urllib.parse.urlsplit(picture).path)
    return base64.b64decode(picture) if _BASE64.match(picture) else picture


_BASE64 = re.compile(r"(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR|Qk[0-3]|SUkqA|TU0AK)[A-Za-z0-9+/]{40}")
"""Beginnings of image files in base64."""
_WEB = re.compile(r"(?:https?|s3|gs|hf)://", re.IGNORECASE)


def _unreadable_reason(picture: Any) -> str:
    """Return a sentence on why an image cannot be recorded."""
    if isinstance(picture, Mapping):
        picture = next((picture[name] for name in ("path", "image", "url") if picture.get(name)), picture)
    is_location = isinstance(picture, (str, Path)) and len(str(picture)) < MAX_PATH_LENGTH
    if is_location and _WEB.match(str(picture)):
        problem = f"{str(picture)[:200]} is a web address; pass the image itself or a path"
    elif is_location and not os.path.exists(str(picture)):
        problem = f"the file {str(picture)[:200]} does not exist"
    elif is_location:
        problem = f"{str(picture)[:200]} is not a readable image file"
    else:
        problem = f"a value of type {type(picture).__name__} cannot be read as an image"
    return f"A question is recorded without its image: {problem}."


def encode_image(picture: Any) -> bytes | None:
    """Return an image (PIL, bytes, path, array, data URL or 🤗 Datasets cell) as a file's bytes; None if unreadable."""
    try:
        from PIL import Image
    except ImportError:
        return _image_file_bytes(picture)
    try:
        picture = _unwrap_image(picture)
        if isinstance(picture, (str, Path)):
            path = Path(picture)
            if not path.is_file() or path.stat().st_size > MAX_IMAGE_BYTES:
                return None
            picture = path.read_bytes()
        if isinstance(picture, (bytes, bytearray, memoryview)):
            data = bytes(picture)
            opened = Image.open(io.BytesIO(data))
            keeps_format = opened.format in FORMATS and len(data) <= MAX_IMAGE_BYTES
            return data if keeps_format else _encode_pil(opened)
        return _encode_pil(picture if isinstance(picture, Image.Image) else Image.fromarray(_as_array(picture)))
    except Exception:  # decoders raise a dozen kinds of exception for damaged files
        return None


def _image_file_bytes(picture: Any) -> bytes | None:
    """Return the bytes of an image file when Pillow is not installed."""
    try:
        picture = _unwrap_image(picture)
        data = Path(picture).read_bytes() if isinstance(picture, (str, Path)) else bytes(picture)
    except (OSError, TypeError, ValueError):
        return None
    signatures = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")
    return data if data.startswith(signatures) and len(data) <= MAX_IMAGE_BYTES else None


def _as_array(picture: Any) -> Any:
    """Return a uint8 array of shape (height, width, channels), or (height, width) for one channel."""
    import numpy as np

    if hasattr(picture, "detach"):
        picture = picture.detach().cpu()
        # NumPy has no bfloat16.
        picture = picture.float() if picture.is_floating_point() else picture
    array = np.asarray(picture)
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8:
        is_unit_range = array.dtype.kind == "b" or (array.dtype.kind == "f" and float(array.max(initial=0)) <= 1.0)
        scale = 255.0 if is_unit_range else 1.0
        array = np.clip(array * scale, 0, 255).astype(np.uint8)
    return array


def _float_array(image: Any) -> Any:
    import numpy as np

    return np.clip(np.asarray(image).astype("float64"), 0, 65535)


def _encode_pil(image: Any) -> bytes:
    from PIL import Image, ImageCms

    buffer = io.BytesIO()
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    elif image.mode == "La":
        image = image.convert("LA")
    if image.mode[0] in "IF":  # 16-bit pictures, or floats of any range
        is_16_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.getextrema()[1] > 255)
        image = Image.fromarray(_as_array(image) if not is_16_bit else (_float_array(image) / 257).astype("uint8"))
    if image.width * image.height > LARGE_IMAGE_PIXELS:
        image.convert("RGB").save(buffer, "JPEG", quality=90)
    else:
        mode = image.mode if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA") else "RGB"
        image.convert(mode).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def plain(value: Any, depth: int = 0) -> Any:
    """Convert a value to JSON types: NaN becomes None, arrays become lists, and images and bytes a short description.

    Texts, lists and nesting beyond the limits are cut.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, (int, float)):
        return value if -MAX_NUMBER <= value <= MAX_NUMBER else str(as_number(value))
    if isinstance(value, str):
        if value.startswith("data:image"):
            return "<image>"
        return value if len(value) <= MAX_TEXT_LENGTH else f"{value[:MAX_TEXT_LENGTH]}…"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value):,} bytes>"
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, (argparse.Namespace, SimpleNamespace)) or (_is_dataclass(value)):
        value = _fields(value)
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(name): plain(item, depth + 1) for name, item in list(value.items())[:MAX_ENTRIES]}
    if isinstance(value, (list, tuple, set, frozenset)):
        entries = [plain(item, depth + 1) for item in list(value)[:MAX_ENTRIES]]
        return entries if len(value) <= MAX_ENTRIES else [*entries, "…"]
    if hasattr(value, "size") and hasattr(value, "mode") and hasattr(value, "getbands"):
        return f"<image of {value.size[0]} × {value.size[1]}>"
    if callable(to_list := getattr(value, "tolist", None)):
        return plain(to_list(), depth + 1)
    return str(value)[:MAX_TEXT_LENGTH]


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of an object, or of a class with settings, including inherited ones but no methods."""
    cls = value if isinstance(value, type) else type(value)
    fields: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        for name, field_ in vars(base).items():
            is_own = not (name.startswith("_") or hasattr(field_, "__get__") or callable(field_))
            is_slot = type(field_).__name__ == "member_descriptor" and hasattr(value, name)
            if is_own or (is_slot and value is not cls):
                fields[name] = getattr(value, name, None)
    return fields if value is cls else {**fields, **getattr(value, "__dict__", {})}


def flatten(logs: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return names and values, nested ones as `outer/inner`."""
    pairs: list[tuple[str, Any]] = []
    for key, value in logs.items():
        name = f"{prefix}{key}"
        pairs += flatten(value, f"{name}/") if isinstance(value, Mapping) else [(name, value)]
    return pairs


def flat_numbers(logs: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    """Return names and numbers, nested ones as `outer/inner`. Values that are not numbers are left out."""
    parsed = ((name, value, as_number(value)) for name, value in flatten(logs))
    return [(name, number) for name, value, number in parsed if number is not None or value is None]


def _item(value: Any) -> Any:
    """Unwrap a NumPy or torch scalar; return None for an array of several elements, and other values unchanged."""
    if callable(item := getattr(value, "item", None)):
        try:
            return item()
        except Exception:  # several elements, or a meta tensor without data
            return None
    return value


def as_number(value: Any) -> float | None:
    """Return a Python, NumPy or torch scalar as a float; None for anything else."""
    value = _item(value)
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except ValueError:  # a signalling NaN
        return math.nan


def is_absent(value: Any) -> bool:
    """Return whether a value is missing: None, NaN, NaT or pandas' NA."""
    number = as_number(value)
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (number is not None and number != number)


def parse_number(value: Any) -> float | None:
    """Return a script's value as a number. Text is parsed; True is 1 and False is 0."""
    value = _item(value)
    if isinstance(value, str) and len(value) <= MAX_NAME_LENGTH:
        with suppress(ValueError):
            return float(value)
    return float(value) if isinstance(value, bool) else as_number(value)


def _reward(value: Any) -> float | None:
    """Return a reward as a number that a journal can hold."""
    return _finite(parse_number(value))


def _is_number_or_missing(value: Any, number: float | None) -> bool:
    """Return whether a metric is a number or is explicitly missing."""
    return number is not None or is_absent(value)


def _bool_or_none(value: Any) -> bool | None:
    """Return a value as a bool; None if it is unknown."""
    number = _reward(value)
    return None if number is None else bool(number)


def _finite(value: float | None) -> float | None:
    """Return the number, or None if a journal cannot hold it (NaN, infinite or too large)."""
    return value if value is not None and -MAX_NUMBER <= value <= MAX_NUMBER else None


def _count(value: Any) -> int | None:
    """Return a non-negative whole number of any numeric type as an int; None for anything else."""
    number = as_number(value)
    whole = int(number) if number is not None and 0 <= number <= MAX_COUNT else None
    return whole if whole == number else None


def _limit_name(name: Any) -> str:
    """Return a name that is not empty and has at most LONGEST_NAME characters."""
    text = str(name) or "(no name)"
    if len(text) <= MAX_NAME_LENGTH:
        return text
    return f"{text[: MAX_NAME_LENGTH - 9]}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _numbers(values: Mapping[Any, Any]) -> dict[str, float | None]:
    return {_limit_name(name): _reward(value) for name, value in values.items()}


def _items_of(config: Any) -> dict[str, Any]:
    """Return the settings in a configuration: a mapping, or an object with attributes."""
    if config is None or isinstance(config, Mapping):
        return {str(name): value for name, value in (config or {}).items()}
    if isinstance(config, tuple) and hasattr(config, "_asdict"):
        return dict(config._asdict())
    has_fields = any(hasattr(config, attribute) for attribute in ("__dict__", "__slots__"))
    return _fields(config) if has_fields else {"config": config}


class Settings(dict):
    """A dict whose items are attributes, too. `changed` is called after each change."""

    def __init__(self, values: Mapping[str, Any], changed: Callable[[], object]) -> None:
        super().__init__(values)
        object.__setattr__(self, "_changed", changed)

    def update(self, *given: Any, **named: Any) -> None:
        """Set items from mappings or objects with attributes. Every change is allowed, as with `allow_val_change`."""
        named.pop("allow_val_change", None)
        for values in (*given, named):
            super().update(_items_of(values))
        self._changed()

    def setdefault(self, name: Any, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def as_dict(self) -> dict[str, Any]:
        return dict(self)

    def __setitem__(self, name: Any, value: Any) -> None:
        super().__setitem__(str(name), value)
        self._changed()

    def __delitem__(self, name: Any) -> None:
        super().__delitem__(name)
        self._changed()

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"There is no {name!r} here, only {', '.join(map(str, self)) or 'nothing'}.")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __reduce__(self) -> Any:
        return dict, (dict(self),)  # a copy is not recorded


_ALGORITHMS = ("method", "algorithm", "algo", "rl_algorithm", "adv_estimator", "advantage_estimator")
"""Names of settings with the training method."""
DEFAULT_REWARD_METHOD = "rl"
"""Method of a run with rewards if nothing names it."""
_ALIASES = {"gae": "ppo", "reinforce_plus_plus": "reinforce_pp"}


def _normalize_method(name: Any) -> str:
    """Return a method's name in the form that a journal can hold."""
    identifier = re.sub("[^a-z0-9_]+", "_", str(name or "").lower().replace("++", "_pp")).strip("_")
    return _ALIASES.get(identifier, identifier)[:16] or "unknown"


def _method_of_settings(settings: Any, depth: int = 0) -> str | None:
    """Return the method named in a configuration, such as those of verl."""
    if not isinstance(settings, Mapping) or depth > 2:
        return None
    for name in _ALGORITHMS:
        if isinstance(settings.get(name), str) and settings[name].strip():
            return _normalize_method(settings[name])
    return next((method for nested in settings.values() if (method := _method_of_settings(nested, depth + 1))), None)


def _warn_once(text: str) -> None:
    """Log a warning, once for each text."""
    if text not in _WARNED:
        _WARNED.add(text)
        logger.warning(text)


_WARNED: set[str] = set()


# ---- The journal: an append-only folder -----------------------------------------------------------------------------

_SEQUENCE = re.compile(rb'\{"seq": (\d+)')


class Journal:
    """Buffers the records and images of one run and appends them to a folder.

    If the process is killed, at most what was not yet on disk is lost. `add` may be called from any thread and never
    waits for the disk. Only one thread may call `write`, and only one thread may call `lines`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lost = 0
        """Number of records dropped since the last record that reported such a loss."""
        self.loss_reason = ""
        """Why the last of them could not be read; empty if the disk could not keep up."""
        self.next = 0
        """The number of the next record."""
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        """Images not yet on disk, by hash."""
        self._recent_hashes: OrderedDict[str, None] = OrderedDict()
        """Hashes of recently added images."""
        self._size = 0
        self._lock = threading.Lock()
        self._cursor = (0, 0)
        """A record's number, and the byte offset in the file at which it or a later record begins."""

    def add(self, record: Mapping[str, Any], images: Sequence[bytes] = ()) -> bool:
        """Add a record; return False if the buffer is full."""
        text = json.dumps(record, default=str)
        new_images = {hashlib.sha256(data).hexdigest(): data for data in images}
        with self._lock:
            new_images = {name: data for name, data in new_images.items() if name not in self._recent_hashes}
            size = len(text) + sum(map(len, new_images.values()))
            if self._size + size > MAX_BUFFERED_BYTES:
                self.lost += 1
                self.loss_reason = ""
                return False
            self._waiting.append((self.next, f'{{"seq": {self.next}, {text[1:]}\n'.encode("ascii")))
            self._pictures.update(new_images)
            self._recent_hashes.update(dict.fromkeys(new_images))
            while len(self._recent_hashes) > 10_000:
                self._recent_hashes.popitem(last=False)
            self._size += size
            self.next += 1
        return True

    @property
    def is_waiting(self) -> bool:
        """Whether some records or images are not on disk yet."""
        return bool(self._waiting or self._pictures)

    def write(self) -> None:
        """Write what is buffered, images first because lines refer to them.

        Raises OSError; what was not written stays buffered.
        """
        if not self.is_waiting:
            return
        (self.folder / IMAGES).mkdir(mode=0o700, parents=True, exist_ok=True)
        while self._pictures:
            with self._lock:
                name, data = next(iter(self._pictures.items()))
            path = self.folder / IMAGES / name
            if not path.exists():
                temporary = path.with_name(f".{name}")
                _make_private(temporary)
                temporary.write_bytes(data)
                os.replace(temporary, path)
            with self._lock:
                del self._pictures[name]
                self._size -= len(data)
        with self._lock:
            lines = list(self._waiting)
        _append(self.folder / LINES, b"".join(line for _, line in lines))
        with self._lock:
            for _ in lines:
                self._size -= len(self._waiting.popleft()[1])
            self._size = max(0, self._size)

    def lines(self, first: int, max_bytes: int = MAX_REQUEST_BYTES) -> tuple[list[bytes], int]:
        """Return about `max_bytes` bytes of lines, beginning with number `first`, and the number that follows them.

        Lines on disk come first, without damaged ones, and then buffered lines. Raises OSError if the lines on disk
        cannot be read.
        """
        with self._lock:
            waiting = list(self._waiting)
        is_buffered = bool(waiting) and waiting[0][0] <= first
        lines, next_number = ([], first) if is_buffered else self._from_disk(first, max_bytes)
        size = sum(map(len, lines))
        for number, line in waiting:
            if number >= next_number and size < max_bytes:
                lines.append(line)
                size += len(line)
                next_number = number + 1
        return lines, next_number

    def _from_disk(self, first: int, max_bytes: int) -> tuple[list[bytes], int]:
        lines: list[bytes] = []
        size, next_number = 0, first
        offset = self._cursor[1] if self._cursor[0] <= first else 0
        with suppress(FileNotFoundError), (self.folder / LINES).open("rb") as file:
            file.seek(offset)
            while size < max_bytes:
                line = file.readline()
                if not line.endswith(b"\n"):
                    break
                match = _SEQUENCE.match(line)
                if match and int(match[1]) >= next_number:
                    lines.append(line)
                    size += len(line)
                    next_number = int(match[1]) + 1
                offset = file.tell()
        self._cursor = (next_number, offset)
        return lines, next_number

    def image(self, name: str) -> bytes | None:
        """Return an image by its hash."""
        with self._lock:
            data = self._pictures.get(name)
        if data is not None:
            return data
        with suppress(OSError):
            return (self.folder / IMAGES / name).read_bytes()
        return None


def _make_private(path: Path) -> None:
    """Create an empty file that only this user can read, unless it exists."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _append(path: Path, data: bytes) -> None:
    """Append all of the data, or nothing. Raises OSError."""
    if not data:
        return
    _make_private(path)
    with path.open("ab", buffering=0) as file:
        old_size = file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(old_size)
            raise


# ---- Delivery: from the journal to the dashboard --------------------------------------------------------------------


class Unreachable(Exception):
    """The dashboard cannot be reached at the moment."""


class Refused(Exception):
    """The dashboard does not accept this journal; the message says why."""


class InvalidRequest(Refused):
    """The dashboard does not accept this request: it is too large, or its content is invalid."""


class DeliveryReply(NamedTuple):
    """The dashboard's answer to records."""

    next: int
    """Number of the first record that the dashboard does not have."""
    stop: int = 0
    """How urgently the run was asked to stop; 0 if it was not."""
    run: str = ""
    """Uid of the run to which the records belong."""
    missing: tuple[str, ...] = ()
    """Hashes of images that the dashboard needs before it can accept record `next`."""


class Dashboard:
    """Delivers records over HTTP. A replacement needs the same methods: `put`, `put_image` and `page`."""

    def __init__(self, url: str | None = None) -> None:
        self.url = (url or os.environ.get("VR1Z_URL") or URL).strip().rstrip("/")
        if "://" not in self.url:
            self.url = f"http://{self.url}"

    def page(self, run: str) -> str:
        return f"{self.url}/run?run={run}"

    def put(
        self, uid: str, first: int, lines: Sequence[bytes], without: Sequence[str] = (), *, is_alive: bool = True
    ) -> DeliveryReply:
        """Deliver lines of a journal, beginning with number `first`; without lines, this is a heartbeat.

        `without` holds hashes of images that are lost. With `is_alive=False` the request does not count as a heartbeat.
        Raises Away or Refused.
        """
        path = f"/api/record/{uid}?from={first}" + "".join(f"&without={name}" for name in without)
        path += "" if is_alive else "&left=1"
        reply = self._ask("POST", path, b"".join(lines), "application/jsonl")
        try:
            return DeliveryReply(
                int(reply["next"]), int(reply["stop"]), str(reply["run"]), tuple(map(str, reply["missing"]))
            )
        except (KeyError, TypeError, ValueError):
            raise Refused(f"{self.url} is not a Vision-R1-Zero dashboard: set VR1Z_URL to its address.") from None

    def put_image(self, name: str, data: bytes) -> None:
        """Deliver an image. Raises Away, Refused, or Unfit if the dashboard cannot show it."""
        self._ask("PUT", f"/api/record/images/{name}", data, "application/octet-stream")

    def _ask(self, method: str, path: str, body: bytes, content_type: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": content_type, "User-Agent": "vr1z"}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as answer:
                reply = json.loads(answer.read(2**20))
        except urllib.error.HTTPError as error:
            with error:
                message = error.read(2000).decode("utf-8", "replace").strip()
            message = message if message and "<" not in message else f"{self.url} answers {error.code}."
            if error.code in (404, 405):
                message = f"{self.url} does not accept records ({error.code}): set VR1Z_URL to the dashboard's address."
            if error.code in (413, 422):
                raise InvalidRequest(message) from None
            if error.code in (400, 401, 403, 404, 405, 410):
                raise Refused(message) from None
            raise Unreachable(message) from None
        except ValueError:
            raise Unreachable(f"{self.url} answers, but not like a Vision-R1-Zero dashboard: check VR1Z_URL.") from None
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.url} does not answer: {getattr(error, 'reason', error)}") from None
        return reply if isinstance(reply, dict) else {}

    def _token(self) -> str:
        token = os.environ.get("VR1Z_TOKEN")
        path = os.environ.get("VR1Z_TOKEN_FILE") or TOKEN_FILE
        if not token and path:
            with suppress(OSError):
                token = Path(path).read_text(encoding="ascii", errors="replace")
        token = (token or "").strip()
        if not token.isalnum() or not token.isascii():
            raise Refused("No token is set: set VR1Z_TOKEN to the token shown on the dashboard's Record page.")
        return token


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, which would send the token to another address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


class Courier:
    """Writes and delivers a journal in two background threads, which block neither each other nor the script."""

    def __init__(self, uid: str, journal: Journal, dashboard: Any) -> None:
        self.uid, self.journal, self.dashboard = uid, journal, dashboard
        self.stop = 0
        self.run = ""
        self.is_alive = False
        """Whether training is in progress; the dashboard then gets a heartbeat every few seconds."""
        self.is_abandoned = False
        """Whether this journal belongs to a script that ended before delivering it."""
        self.delivered = 0
        """Number of the first record that the dashboard does not have."""
        self.refusal: str | None = None
        """Why the dashboard no longer accepts records, once it has said so."""
        self.is_away = False
        """Whether the last request to the dashboard got no answer."""
        self._max_bytes = MAX_REQUEST_BYTES
        """Most bytes of lines that the dashboard, or a proxy in front of it, accepts in one request."""
        self._missing: tuple[str, ...] = ()
        """Hashes of images for which the dashboard asked last."""
        self._undeliverable: list[str] = []
        """Hashes of images for which the dashboard asked but that cannot be delivered."""
        self._warned: set[str] = set()
        self._wake, self._wake_sender, self._retry = threading.Event(), threading.Event(), threading.Event()
        self._closed = False
        self._arrived = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._process = os.getpid()

    @property
    def is_forked(self) -> bool:
        """Whether this is a forked child of the recorded process, where threads do not run and locks may be held."""
        return os.getpid() != self._process

    def take(self, record: Mapping[str, Any], images: Sequence[bytes] = ()) -> None:
        """Accept a record without waiting for the disk or the dashboard."""
        if self.is_forked:
            self.warn("Records of a forked process are dropped: record from the process that started the run.")
            return
        if self._closed:
            self.warn("Records made after the run was closed are dropped.")
            return
        if self.journal.lost:
            lost, self.journal.lost = self.journal.lost, 0
            if not self.journal.add(_loss_record(lost, self.journal.loss_reason)):
                self.journal.lost += lost - 1
        if not self.journal.add(record, images):
            self.warn("The disk cannot keep up with the records: some are dropped and counted.")
        self._begin()
        self._wake.set()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` and return whether everything is delivered. A dashboard that was away is tried once."""
        self.is_away = False
        self._begin()
        self._wake.set()
        self._retry.set()
        with self._arrived:
            self._arrived.wait_for(self._is_settled, seconds)
        return self.delivered >= self.journal.next

    def wait_for_disk(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self.journal.is_waiting and time.monotonic() < end:
            time.sleep(0.01)
        return not self.journal.is_waiting

    def close(self) -> None:
        self._closed = True
        for event in (self._wake, self._wake_sender, self._retry):
            event.set()

    def warn(self, text: str) -> bool:
        """Log a warning, once for each text; return whether this was the first time."""
        is_new = text not in self._warned
        if is_new:
            self._warned.add(text)
            logger.warning(text)
        return is_new

    def _begin(self) -> None:
        if not self._threads and not self._closed:
            for work in (self._write, self._deliver):
                thread = threading.Thread(target=work, name="vr1z", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _is_settled(self) -> bool:
        is_useless = self.refusal is not None or self.is_away
        return self.delivered >= self.journal.next or (is_useless and not self.journal.is_waiting)

    def _write(self) -> None:
        while not (self._closed and not self.journal.is_waiting):
            self._wake.wait(HEARTBEAT_SECONDS)
            self._wake.clear()
            try:
                self.journal.write()
            except Exception as error:
                self.warn(f"{self.journal.folder} cannot be written ({error}): records are kept in memory and retried.")
                if self._closed:
                    return
                time.sleep(0.5)
                self._wake.set()
            self._wake_sender.set()
            with self._arrived:
                self._arrived.notify_all()

    def _deliver(self) -> None:
        while self.refusal is None:
            has_more = False
            try:
                has_more = self._deliver_some()
                self.is_away = False
            except Refused as error:
                self.refusal = str(error)
                self.warn(f"{str(error).rstrip('.')}. Training continues and is recorded in {self.journal.folder}.")
            except Unreachable as error:
                self.warn(
                    f"{str(error).rstrip('.')}. Training continues; its records are kept in {self.journal.folder}."
                )
                self.is_away = True
            except Exception as error:  # a bug of this file must be reported once only
                self.warn(f"Records could not be delivered ({error!r}); training continues.")
                self.is_away = True
            with self._arrived:
                self._arrived.notify_all()
            if self._closed and not has_more:
                return
            if self.is_away:
                self._retry.wait(RETRY_SECONDS)
                self._retry.clear()
            elif not has_more:
                self._wake_sender.wait(HEARTBEAT_SECONDS)
                self._wake_sender.clear()

    def _deliver_some(self) -> bool:
        """Deliver one request's worth of records; return whether there are more."""
        lines, _ = self.journal.lines(self.delivered, self._max_bytes)
        if not lines and not self.is_alive:
            return False
        try:
            answer = self.dashboard.put(
                self.uid, self.delivered, lines, self._undeliverable, is_alive=not self.is_abandoned
            )
        except InvalidRequest:
            if len(lines) < 2:
                raise
            self._max_bytes = sum(map(len, lines)) // 4
            return True
        self._undeliverable = []
        for name in answer.missing:
            try:
                if (data := self.journal.image(name)) is None:
                    raise InvalidRequest(f"Image {name} is missing from {self.journal.folder}.")
                self.dashboard.put_image(name, data)
            except InvalidRequest as error:
                self.warn(f"{error} Its example will be shown without it.")
                self._undeliverable.append(name)
        self.stop = max(self.stop, answer.stop)
        if answer.run and not self.run:
            self.run = answer.run
            subject = "records of an earlier script are" if self.is_abandoned else "recording"
            print(f"vr1z: {subject} at {self.dashboard.page(answer.run)}", file=sys.stderr)
        has_progressed = answer.next != self.delivered or answer.missing != self._missing
        self.delivered, self._missing = answer.next, answer.missing
        if has_progressed:
            self._save_progress()
        return bool(lines) and has_progressed and (answer.next < self.journal.next or bool(answer.missing))

    def deliver_rest(self) -> None:
        """Deliver the journal of a script that has ended, in the calling thread. Raises Away or Refused."""
        self.is_abandoned = True
        while self._deliver_some():
            pass

    def _save_progress(self) -> None:
        """Save how much has been delivered: a hint for whoever delivers this folder later."""
        with suppress(OSError):
            path = self.journal.folder / DELIVERED
            _make_private(path)
            path.write_text(json.dumps({"next": self.delivered, "run": self.run}), encoding="ascii")


def _loss_record(count: int, reason: str = "") -> dict[str, Any]:
    subject = "1 record of the training is" if count == 1 else f"{count} records of the training are"
    message = f"{subject} lost: {reason or 'the disk could not keep up with the script'}."
    return {"type": "event", "kind": "recording_failed", "message": message, "at": time.time()}


class _Mute(Courier):
    """Takes and delivers nothing."""

    def take(self, record: Mapping[str, Any], images: Sequence[bytes] = ()) -> None:
        pass

    def wait(self, seconds: float) -> bool:
        return True


def deliver_left(parent: Path, own_uid: str, dashboard: Any) -> None:
    """Deliver the journals in a folder that killed scripts left behind, except the caller's own.

    The next script that records there tries again what cannot be delivered now.
    """
    with suppress(Unreachable, OSError):
        for path in sorted(parent.glob(f"{PREFIX}*/{LINES}")):
            uid, process = _read_begin(path)
            count = _last_number(path) + 1
            delivered = _read_delivered(path.with_name(DELIVERED))
            if uid in ("", own_uid) or delivered >= count or _is_running(process, path):
                continue
            courier = Courier(uid, Journal(path.parent), dashboard)
            courier.journal.next, courier.delivered = count, delivered
            with suppress(Refused):
                courier.deliver_rest()


def _read_begin(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Return the uid and the process of the script that wrote a journal; an empty uid if the journal is unreadable."""
    try:
        with path.open("rb") as file:
            record = json.loads(file.readline(2**20))
        return str(record["uid"]), dict(record["process"])
    except (OSError, ValueError, TypeError, KeyError):
        return "", {}


def _is_running(process: Mapping[str, Any], journal: Path) -> bool:
    """Return whether the process may still run. On another machine or in another container, recent writes decide."""
    own = _process()
    if process.get("host") != own["host"] or process.get("namespace", own["namespace"]) != own["namespace"]:
        return time.time() - journal.stat().st_mtime < QUIET_SECONDS
    if process.get("boot_id") != own["boot_id"]:
        return False
    if (process.get("pid"), process.get("started")) == (own["pid"], own["started"]):
        return True
    return _start_time(process.get("pid")) == process.get("started") is not None


def _last_number(path: Path) -> int:
    """Return the number of a journal's last complete line; -1 if it has none."""
    with path.open("rb") as file:
        end = size = file.seek(0, os.SEEK_END)
        tail = b""
        while size and tail.count(b"\n") < 2:
            size = max(0, size - 2**16)
            file.seek(size)
            tail = file.read(end - size)
    lines = tail[: tail.rfind(b"\n") + 1].splitlines()
    match = _SEQUENCE.match(lines[-1]) if lines else None
    return int(match[1]) if match else -1


def _read_delivered(path: Path) -> int:
    """Return the number of the first record that the dashboard lacked when it last answered."""
    try:
        return int(json.loads(path.read_bytes())["next"])
    except (OSError, ValueError, TypeError, KeyError):
        return 0


# ---- Capture: read what a TRL trainer samples and logs --------------------------------------------------------------

PLAIN_TYPES = (str, int, float, bool)
SUMMARY_KEYS = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")
"""Keys of the summary in a training's last log entry; only that entry has `train_loss`."""
_METHODS = {
    **{name: name.lower() for name in ("GRPO", "RLOO", "SFT", "DPO", "KTO", "ORPO", "CPO", "BCO", "XPO", "PPO", "GKD")},
    "OnlineDPO": "online_dpo",
    "NashMD": "nash_md",
    "Reward": "reward",
}
"""Method names by the prefix of TRL's trainer classes."""
_TRAINER_CLASS = re.compile(rf"_?(?:Unsloth)?({'|'.join(_METHODS)})Trainer\Z")
"""Unsloth replaces TRL's classes by its own, whose names begin with `Unsloth`."""
_NON_METRIC_KEYS = ("epoch", "total_flos")
_LAST_TOKENS = 32
"""How many of the prompt's last tokens are searched for an opening that the chat template adds."""
_THINK_OPENING = re.compile(r"<think>\s*\Z")
_LAST_CHARACTERS = 100


@dataclass(frozen=True)
class Generation:
    """A generation batch in TRL's order, in which the G completions of a prompt are adjacent."""

    number: int
    inputs: Sequence[dict[str, Any]]
    """Dataset rows, each repeated G times, with values of plain types only."""
    ids: Sequence[Sequence[int]]
    """Generated token ids, including the end token."""
    texts: Sequence[str]
    """Generated texts, preceded by the opening that the prompt ends with, if any."""
    lengths: Sequence[int]
    truncated: Sequence[bool]
    rewards: dict[str, list[float | None]]
    """Unweighted values by the name of the reward function."""
    advantages: Sequence[float | None]
    group_size: int
    generation_seconds: float
    scoring_seconds: float
    step: int | None = None
    """The update for which it was sampled; None if that is the next one to be logged."""
    rows: Sequence[Any] = field(default_factory=tuple)
    """The result of the `keep` function of `GenerationCapture` for each dataset row."""
    of_evaluation: bool = False
    """Whether it was sampled for an evaluation after `step` updates."""


class GenerationCapture:
    """Wraps a GRPOTrainer and passes each training generation to `sink`, with the rows of all processes.

    TRL keeps only the latest generation batch in `_logs` and shuffles rows after scoring, so methods are wrapped on the
    instance. Other versions of TRL may have other methods: what cannot be captured is left out and reported once.
    With `evaluations`, generations for evaluations are passed, too.

    Every process needs a capture, but only the first has a sink. `keep` turns a dataset row into its entry in
    `Generation.rows`, which the rows of a group share. `opening` gets the end of a rendered prompt and returns the part
    of it that already belongs to the completion; texts start with it.
    """

    def __init__(
        self,
        trainer: Any,
        sink: Callable[[Generation], None] | None,
        keep: Callable[[Mapping[str, Any]], Any] | None = None,
        opening: Callable[[str], str] | None = None,
        evaluations: bool = False,
    ) -> None:
        self._trainer = trainer
        self._evaluations = evaluations
        self._opening = opening
        self._sink = sink
        self._keep = keep
        self._count = 0
        self._generation_seconds = 0.0
        self._scoring_seconds = 0.0
        self._ids: list[list[int]] | None = None
        self._openings: list[str] = []
        self._rewards: Any = None
        self._warned = False
        self._originals: dict[str, Callable[..., Any]] = {}
        for name, wrapper in (
            ("_generate", self._timed_generate),
            ("_calculate_rewards", self._timed_rewards),
            ("_generate_and_score_completions", self._timed_generate_and_score),
        ):
            if callable(original := getattr(trainer, name, None)):
                self._originals[name] = original
                setattr(trainer, name, wrapper)
        if "_generate_and_score_completions" not in self._originals:
            self._warn("the trainer has no method _generate_and_score_completions")

    def _warn(self, reason: object) -> None:
        if not self._warned:
            logger.warning(
                "Not all of the completions can be recorded with this TRL version (%s); training continues.", reason
            )
        self._warned = True

    def _timed_generate(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        output = self._originals["_generate"](*args, **kwargs)
        self._generation_seconds = time.perf_counter() - start
        try:
            self._openings = self._openings_of(output[0])
        except Exception as error:
            self._warn(error)
        return output

    def _openings_of(self, prompts: Sequence[Sequence[int]]) -> list[str]:
        """Return the opening of the completion that each prompt, given as token ids, ends with."""
        if self._opening is None:
            return []
        decode = _tokenizer(self._trainer).decode
        return [self._opening(decode(ids[-_LAST_TOKENS:])) for ids in prompts]

    def _timed_rewards(self, *args: Any, **kwargs: Any) -> Any:
        original = self._originals["_calculate_rewards"]
        start = time.perf_counter()
        rewards = original(*args, **kwargs)
        self._scoring_seconds = time.perf_counter() - start
        try:
            arguments = inspect.signature(original).bind(*args, **kwargs).arguments
            ids = next(arguments[name] for name in ("completion_ids_list", "completion_ids") if name in arguments)
            self._ids, self._rewards = [_whole_numbers(token_ids) for token_ids in ids], rewards
        except Exception as error:
            self._warn(error)
        return rewards

    def _timed_generate_and_score(self, *args: Any, **kwargs: Any) -> Any:
        self._ids = self._rewards = None
        self._openings = []
        self._generation_seconds = self._scoring_seconds = 0.0
        start = time.perf_counter()
        output = self._originals["_generate_and_score_completions"](*args, **kwargs)
        try:
            if "_generate" not in self._originals:  # TRL before 0.24 samples here, and otherwise only scores
                self._generation_seconds = time.perf_counter() - start - self._scoring_seconds
                if "prompt_ids" in output:
                    self._openings = self._openings_of(output["prompt_ids"].tolist())
            if self._evaluations or self._trainer.model.training:
                self._hand_over(args[0] if args else kwargs["inputs"], output)
        except Exception as error:
            self._warn(f"{type(error).__name__}: {error}")
        return output

    def _hand_over(self, inputs: Sequence[Mapping[str, Any]], output: Mapping[str, Any]) -> None:
        """Pass on a generation. Gather even after an error, or the other processes would wait for this one."""
        own: _Part | None = None
        try:
            own = self._part(inputs, output)
        except Exception as error:
            self._warn(f"{type(error).__name__}: {error}")
        parts = _gather([own])
        number = self._count
        self._count += bool(self._trainer.model.training)
        if self._sink is None:
            return
        if any(part is None for part in parts):
            raise ValueError("a process could not read its completions")
        self._sink(self._assemble(number, parts))

    def _part(self, inputs: Sequence[Mapping[str, Any]], output: Mapping[str, Any]) -> _Part:
        """Return this process's share of a generation."""
        ids = self._ids
        if ids is None:
            rows_with_mask = zip(output["completion_ids"].tolist(), output["completion_mask"].tolist())
            ids = [[token for token, is_used in zip(*row) if is_used] for row in rows_with_mask]
        advantages = output.get("advantages")
        if len(ids) != len(inputs):
            raise ValueError(f"{len(ids)} completions for {len(inputs)} rows")
        # A group may begin on one process and end on the next.
        first = self._trainer.accelerator.process_index * len(inputs)
        kept_rows: list[Any] = []
        for i, row in enumerate(inputs):
            is_same_group = i > 0 and (first + i) % self._group_size()
            kept_rows.append(None if self._keep is None else kept_rows[-1] if is_same_group else self._keep(row))
        return _Part(
            [{name: row[name] for name in row if isinstance(row[name], PLAIN_TYPES)} for row in inputs],
            ids,
            [None] * len(ids) if advantages is None else advantages.tolist(),
            kept_rows,
            self._openings if len(self._openings) == len(ids) else [""] * len(ids),
        )

    def _assemble(self, number: int, parts: Sequence[_Part]) -> Generation:
        trainer = self._trainer
        tokenizer = _tokenizer(trainer)
        ends = end_tokens(trainer)
        ids = [token_ids for part in parts for token_ids in part.ids]
        columns = [] if self._rewards is None else self._rewards[: len(ids)].tolist()
        openings = [text for part in parts for text in part.openings]
        names = reward_names(trainer) if columns else []
        return Generation(
            number=number,
            inputs=[row for part in parts for row in part.inputs],
            ids=ids,
            texts=[
                opening + decode_completion(tokenizer, token_ids, ends) for opening, token_ids in zip(openings, ids)
            ],
            lengths=[len(token_ids) for token_ids in ids],
            truncated=[not token_ids or token_ids[-1] not in ends for token_ids in ids],
            rewards={name: [_none_if_nan(row[i]) for row in columns] for i, name in enumerate(names)},
            advantages=[value for part in parts for value in part.advantages],
            group_size=self._group_size(),
            generation_seconds=self._generation_seconds,
            scoring_seconds=self._scoring_seconds,
            step=trainer.state.global_step + bool(trainer.model.training),
            rows=[row for part in parts for row in part.rows],
            of_evaluation=not trainer.model.training,
        )

    def _group_size(self) -> int:
        trainer = self._trainer
        training = trainer.num_generations
        return int(training if trainer.model.training else getattr(trainer, "num_generations_eval", None) or training)


class _Part(NamedTuple):
    """One process's share of a generation; each list has one entry per completion."""

    inputs: list[dict[str, Any]]
    ids: list[list[int]]
    advantages: list[float | None]
    rows: list[Any]
    openings: list[str]


def _gather(rows: list[Any]) -> list[Any]:
    from accelerate.utils import gather_object

    gathered: list[Any] = gather_object(rows)
    return gathered


def _whole_numbers(ids: Any) -> list[int]:
    return [int(token) for token in (ids.tolist() if hasattr(ids, "tolist") else ids)]


def _none_if_nan(value: float) -> float | None:
    return None if value != value else value


def _tokenizer(trainer: Any) -> Any:
    processing = trainer.processing_class
    return getattr(trainer, "_tokenizer", None) or getattr(processing, "tokenizer", processing)


def end_tokens(trainer: Any) -> set[int]:
    """Return the ids of the tokens that end a completion."""
    end_ids = getattr(trainer, "eos_token_ids", None)
    if end_ids is None:
        end_ids = getattr(trainer, "eos_token_id", None)
    if end_ids is None:
        end_ids = _tokenizer(trainer).eos_token_id
    ids = end_ids if isinstance(end_ids, (list, tuple, set)) else [end_ids]
    return {token for token in ids if token is not None}


def decode_completion(tokenizer: Any, ids: Sequence[int], ends: set[int]) -> str:
    """Decode token ids without end and padding tokens at the end; other special tokens stay visible."""
    remaining = list(ids)
    while remaining and (remaining[-1] in ends or remaining[-1] == tokenizer.pad_token_id):
        remaining.pop()
    text: str = tokenizer.decode(remaining, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def opening(prompt: str) -> str:
    """Return `<think>` and the white space after it if a rendered prompt ends with them; otherwise an empty text."""
    match = _THINK_OPENING.search(prompt[-_LAST_CHARACTERS:])
    return match.group() if match else ""


def generates(trainer: Any) -> bool:
    """Return whether a trainer samples completions during training."""
    return hasattr(trainer, "_generate_and_score_completions")


def reward_names(trainer: Any) -> list[str]:
    """Return the names of the reward functions; repeated names get a number: `name (2)`."""
    names: list[str] = []
    for name in map(str, trainer.reward_func_names):
        number = 1
        while (unique_name := name if number == 1 else f"{name} ({number})") in names:
            number += 1
        names.append(unique_name)
    return names


def shared_names(trainer: Any) -> set[str]:
    """Return the names that several reward functions share; TRL logs only one mean for all of them."""
    names = [str(name) for name in trainer.reward_func_names]
    return {name for name in names if names.count(name) > 1}


def reward_weights(trainer: Any) -> dict[str, float]:
    weights = getattr(trainer, "reward_weights", None)
    names = reward_names(trainer)
    return dict(zip(names, [1.0] * len(names) if weights is None else [float(weight) for weight in weights]))


def adapter_rank(model: Any) -> int | None:
    adapters = getattr(model, "peft_config", None)
    return getattr(next(iter(adapters.values())), "r", None) if adapters else None


def model_name(model: Any) -> str:
    return str(getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__)


def is_summary(logs: Mapping[str, Any]) -> bool:
    """Return whether a log entry is the last of a training, which holds the summary beside the remaining metrics."""
    return "train_loss" in logs and "train_runtime" in logs


def evaluation_of(logs: Mapping[str, Any]) -> str | None:
    """Return the prefix of the evaluation in a log entry: `eval`, or `eval_NAME` for one of several sets."""
    return next((name[:-8] for name in logs if name.endswith("_runtime") and name != "train_runtime"), None)


def metrics(logs: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers of a log entry by name, without the summary in the last entry.

    With several evaluation sets, TRL logs its own metrics as `eval_…` for each; here they get the set's prefix.
    """
    excluded = (*_NON_METRIC_KEYS, *SUMMARY_KEYS) if is_summary(logs) else _NON_METRIC_KEYS
    prefix = evaluation_of(logs) or "eval"
    values: dict[str, float | None] = {}
    for name, value in flat_numbers(logs):
        if name not in excluded:
            is_unprefixed = name.startswith("eval_") and not name.startswith(f"{prefix}_")
            values[f"{prefix}_{name[5:]}" if is_unprefixed else name] = value
    return values


def summary_of(logs: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the summary in a training's last log entry."""
    return {name: value for name, value in flat_numbers(logs) if name in SUMMARY_KEYS}


def unlogged_means(trainer: Any) -> dict[str, float | None]:
    """Return the means of metrics that TRL has gathered but never logs if training ends with an evaluation."""
    gathered = getattr(trainer, "_metrics", None)
    values = gathered.get("train", {}) if isinstance(gathered, Mapping) else {}
    means: dict[str, float | None] = {}
    for name, logged in values.items():
        numbers = [number for number in map(as_number, logged) if number is not None and number == number]
        if logged:
            means[str(name)] = sum(numbers) / len(numbers) if numbers else None
    return means


# ---- Steps: assign completions and metrics to updates ---------------------------------------------------------------


@dataclass
class HeldStep:
    """An update that has ended, but whose metrics may still be logged."""

    step: int
    at: float
    generations: list[Generation]
    metrics: dict[str, float | None]
    """By the names that the trainer logs, with `time/…`, `tokens_per_second` and `reward/…` added here."""


class Guarded:
    """Base of recorders: keeps errors of recording away from the script, and measures the time it takes."""

    seconds = 0.0
    """Seconds that recording has taken from the script so far."""

    def lose(self, error: object) -> None:
        """Report that something could not be recorded."""
        raise NotImplementedError

    def guarded(self, work: Callable[[], object]) -> None:
        """Run `work`, pass any exception to `lose`, and add the time it took to `seconds`."""
        start = time.perf_counter()
        try:
            work()
        except Exception as error:
            self.lose(f"{type(error).__name__}: {error}")
        self.seconds += time.perf_counter() - start


class Gatherer(Guarded):
    """Handles the events of a `transformers.TrainerCallback` and collects what belongs to each step; never raises.

    Completions belong to the update for which they were sampled, no matter when the trainer logs. Logged values belong
    to the step that the trainer names.
    """

    def __init__(self, shared: frozenset[str] = frozenset()) -> None:
        self.shared = shared
        """Names that several rewards share; TRL logs only one mean for them."""
        self.last_tokens = 0.0
        """The trainer's token count at the last step."""
        self.measuring_seconds = 0.0
        """Seconds of the current step spent on measurements of our own, such as token statistics."""
        self._pending: list[Generation] = []
        self._evaluated: list[Generation] = []
        """Samples of the current evaluation."""
        self._held_step: HeldStep | None = None
        self._step_began: float | None = None
        self._since_tokens = 0.0
        """Duration in seconds of the steps since the trainer last logged its token count."""
        self._last_log = time.perf_counter()

    def take_step(self, step: HeldStep) -> None:
        """Record a complete step."""
        raise NotImplementedError

    def take_metrics(self, step: int, metrics: dict[str, float | None]) -> None:
        """Record metrics that belong to no update."""
        raise NotImplementedError

    def take_evaluation(self, name: str, generations: list[Generation]) -> None:
        """Record samples for the evaluation set `name`; the name is empty if there is only one set."""

    def keep(self, generation: Generation) -> None:
        """Accept a generation, which is recorded with the step for which it was sampled."""
        (self._evaluated if generation.of_evaluation else self._pending).append(generation)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._last_log = time.perf_counter()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.guarded(self.send_held_step)
        self._step_began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.guarded(lambda: self._end_step(state.global_step, control.should_log))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and state.is_world_process_zero:
            self.guarded(lambda: self._log(state.global_step, logs))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.guarded(self.send_held_step)

    def send_held_step(self) -> None:
        held, self._held_step = self._held_step, None
        if held is not None:
            self.take_step(held)

    def send_pending(self) -> None:
        """Record the completions of an update or evaluation that never ended."""
        self.send_held_step()
        self._send_evaluated("")
        pending, self._pending = self._pending, []
        for generation in pending:
            self.take_step(HeldStep(generation.step or 0, time.time(), [generation], {}))

    def without_mixed_means(self, metrics: Mapping[str, float | None]) -> dict[str, float | None]:
        """Return metrics without means that mix several rewards of one name."""
        mixed = {f"rewards/{name}/{figure}" for name in self.shared for figure in ("mean", "std")}
        return {name: value for name, value in metrics.items() if name not in mixed}

    def _end_step(self, step: int, will_log: bool) -> None:
        self.send_held_step()
        now = time.perf_counter()
        self._hold(step, now - (self._last_log if self._step_began is None else self._step_began))
        self._step_began, self._last_log = None, now
        if not will_log:
            self.send_held_step()

    def _log(self, step: int, logs: Mapping[str, Any]) -> None:
        values = self.without_mixed_means(metrics(logs))
        prefix = evaluation_of(logs)
        if prefix is not None:
            self._send_evaluated(prefix[4:].strip("_") if prefix.startswith("eval") else prefix)
        is_held = self._held_step is not None and self._held_step.step == step
        if not is_held and any(
            generation.step is None for generation in self._pending
        ):  # the trainer does not report steps
            self._end_step(step, True)
            is_held = True
        if is_held and self._held_step is not None and prefix is None:
            pace = self._pace(values.get("num_tokens"), bool(self._held_step.generations))
            self._held_step.metrics.update({**values, **pace})
            values = {}
        self.send_held_step()
        if values:
            self.take_metrics(step, values)
        self._last_log = time.perf_counter()

    def _pace(self, tokens: float | None, has_samples: bool) -> dict[str, float | None]:
        """Return tokens per second for training without sampling."""
        if tokens is None:
            return {}
        seconds, self._since_tokens = self._since_tokens, 0.0
        new_tokens, self.last_tokens = max(0.0, tokens - self.last_tokens), tokens
        return {"tokens_per_second": new_tokens / seconds} if seconds and not has_samples else {}

    def _hold(self, step: int, elapsed: float) -> None:
        """Hold a step that has ended, and record earlier ones whose end was not reported."""
        due: dict[int, list[Generation]] = {}
        later: list[Generation] = []
        for generation in self._pending:
            own_step = step if generation.step is None else generation.step
            (due.setdefault(own_step, []) if own_step <= step else later).append(generation)
        self._pending = later
        self._since_tokens += elapsed
        for own_step, generations in sorted(due.items()):
            if own_step < step:
                self.take_step(HeldStep(own_step, time.time(), generations, self._shared_means(generations)))
        generations = due.get(step, [])
        figures = {**self._times(generations, elapsed), **self._shared_means(generations)}
        self._held_step = HeldStep(step, time.time(), generations, figures)

    def _times(self, generations: Sequence[Generation], elapsed: float) -> dict[str, float | None]:
        times: dict[str, float | None] = {"time/step": elapsed}
        if generations:
            generating = sum(generation.generation_seconds for generation in generations)
            scoring = sum(generation.scoring_seconds for generation in generations)
            times["time/generation"] = generating
            times["time/scoring"] = scoring
            times["time/tokens"] = self.measuring_seconds
            times["time/update"] = max(0.0, elapsed - generating - scoring - self.measuring_seconds)
            if elapsed:
                times["tokens_per_second"] = sum(sum(generation.lengths) for generation in generations) / elapsed
        self.measuring_seconds = 0.0
        return times

    def _shared_means(self, generations: Sequence[Generation]) -> dict[str, float | None]:
        """Return the means of rewards that share a name, which TRL does not log separately."""
        means: dict[str, float | None] = {}
        for name in dict.fromkeys(name for generation in generations for name in generation.rewards):
            if any(name == shared or name.startswith(f"{shared} (") for shared in self.shared):
                values = [
                    value
                    for generation in generations
                    for value in generation.rewards.get(name, ())
                    if value is not None
                ]
                means[f"reward/{name}"] = sum(values) / len(values) if values else None
        return means

    def _send_evaluated(self, name: str) -> None:
        generations, self._evaluated = self._evaluated, []
        if generations:
            self.take_evaluation(name, generations)


def _components(rewards: Any) -> Mapping[Any, Any]:
    """Return rewards by component; one dict per completion is accepted, too."""
    if rewards is None or isinstance(rewards, Mapping):
        return rewards or {}
    values = list(rewards) if hasattr(rewards, "__next__") else rewards
    if isinstance(values, (list, tuple)) and values and all(isinstance(row, Mapping) for row in values):
        names = dict.fromkeys(name for row in values for name in row)
        return {name: [row.get(name) for row in values] for name in names}
    return {"reward": values}


# ---- Runs -----------------------------------------------------------------------------------------------------------


GRAMMARS = ("ours", "boxed", "none")
STATES = ("finished", "stopped", "failed")
COUNTS = ("lora_rank", "seed", "max_steps")
MAX_PATH_LENGTH = 1000


def _columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's further columns as a journal can hold them."""
    limited = {name: _count(value) if name in COUNTS else value for name, value in columns.items()}
    if len(str(limited.get("output_dir"))) > MAX_PATH_LENGTH:
        limited["output_dir"] = None
    return limited


class Run(Guarded):
    """A run that is being recorded, made by `start`. Its methods never raise if something cannot be recorded."""

    def __init__(
        self,
        name: str,
        *,
        folder: Path,
        dashboard: Any = None,
        config: Any = None,
        method: str | None = None,
        model: str = "unknown",
        grammar: str | None = None,
        weights: Mapping[str, Any] | None = None,
        labels: Mapping[str, Any] | None = None,
        is_muted: bool = False,
        **columns: Any,
    ) -> None:
        """`labels` are recorded with the configuration. A muted run records nothing."""
        self.uid = secrets.token_hex(5)
        self.folder = folder / f"{PREFIX}{self.uid}"
        if grammar not in (None, *GRAMMARS):
            _warn_once(
                f"Unknown grammar {grammar!r}: use one of {', '.join(GRAMMARS)}. It is now detected from the prompts."
            )
            grammar = None
        self.grammar = grammar
        self._labels = dict(labels or {})
        self.config = Settings(_items_of(config), self._tell_config)
        """The script's configuration; changes to it are recorded."""
        self.summary = Settings({}, self._tell_summary)
        """What the script says of the whole run, such as its best accuracy; changes to it are recorded."""
        self.step = 0
        """The step at which `log` records if it is given none."""
        settings = plain({**self._labels, **self.config})
        method = method or _method_of_settings(settings)
        self._is_named = method is not None
        self._weights = _numbers(weights or {})
        self._run = {
            "name": _limit_name(name),
            "method": _normalize_method(method),
            "model": str(model or "unknown")[:400],
            "grammar": grammar or "none",
            "config": settings,
            "reward_weights": self._weights,
            **_columns(columns),
        }
        self._courier = (_Mute if is_muted else Courier)(self.uid, Journal(self.folder), dashboard or Dashboard())
        self._examples: OrderedDict[str, None] = OrderedDict()
        """Keys of recently recorded examples."""
        self._groups: tuple[int, int] = (-1, 0)
        """The latest step with groups, and how many groups it has."""
        self._generations = 0
        self._settled = 0
        """Number of records for whose delivery `settle` has waited."""
        self._has_begun = self._is_open = self._has_reported_image = False
        self._process = os.getpid()
        atexit.register(self.close)

    @property
    def should_stop(self) -> bool:
        """Whether *Stop* was pressed for this run in the dashboard."""
        return self._courier.stop > 0

    @property
    def url(self) -> str:
        """Address of the run's page; empty until the dashboard has answered."""
        return self._courier.dashboard.page(self._courier.run) if self._courier.run else ""

    @property
    def id(self) -> str:
        return self.uid

    @property
    def dir(self) -> str:
        """The folder of the journal."""
        return str(self.folder)

    @property
    def name(self) -> str:
        return str(self._run["name"])

    @name.setter
    def name(self, name: Any) -> None:
        self._run["name"] = _limit_name(name)
        self.guarded(lambda: self.describe({"name": self._run["name"]}))

    @overload
    def log(self, step: int, values: Mapping[str, Any]) -> None: ...

    @overload
    def log(self, values: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> None: ...

    def log(self, *given: Any, **named: Any) -> None:
        """Record metrics of update `step`: numbers of any kind; nested mappings become `outer/inner`.

        `log(step, values)` and `log(values, step)` mean the same. Without a step, calls count up from 0 or the latest
        recorded step, as in Weights & Biases; after `commit=False` the next call is for the same step.
        """

        def take() -> None:
            values, step, commit = _log_arguments(given, named)
            place = self.step if step is None else step
            self.step = max(self.step, place) + bool(step is None if commit is None else commit)
            self._log(place, values)

        self.guarded(take)

    def group(
        self,
        step: int,
        prompt: Any,
        images: Any = None,
        completions: Sequence[Any] = (),
        *,
        rewards: Mapping[str, Sequence[Any]] | Sequence[Any] | None = None,
        advantages: Sequence[Any] | None = None,
        answer: Any = None,
        tokens: Sequence[Any] | None = None,
        truncated: Sequence[Any] | None = None,
        **columns: Any,
    ) -> None:
        """Record the completions sampled for one prompt at update `step`.

        `prompt` is a text or messages, `images` one image or several (PIL, bytes, path, array), and `answer` the gold
        answer of any type. `rewards` has one value per completion, or maps each component's name to such a list.
        Further columns are kept as given.
        """

        def take() -> None:
            self.step = max(self.step, _update_number(step))
            texts = [completion_text(each) for each in ([completions] if isinstance(completions, str) else completions)]
            self._group(
                step,
                {"prompt": prompt, "images": images, "answer": answer, **columns},
                texts,
                {_limit_name(name): self._scores(name, given, texts) for name, given in _components(rewards).items()},
                [_finite(as_number(value)) for value in self._value_per_completion("advantages", advantages, texts)],
                [_count(value) for value in self._value_per_completion("tokens", tokens, texts)],
                [bool(_bool_or_none(value)) for value in self._value_per_completion("truncated", truncated, texts)],
            )

        self.guarded(take)

    def evaluation(self, step: int, benchmark: str, rows: Sequence[Mapping[str, Any]], *, greedy: bool = True) -> None:
        """Record the answers to a benchmark after `step` updates.

        Each row has `prompt` and `completion`, and may have `images`, `answer` (the gold answer), `correct`, `rewards`
        (numbers by name), `tokens` and further columns. Several rows with the same question are samples for it.
        """
        self.guarded(lambda: self._evaluation(step, benchmark, rows, greedy))

    def finish(self, state: Any = "finished", error: str | None = None, *, exit_code: Any = None, **_: Any) -> None:
        """End the run as `finished`, `stopped` or `failed`, and wait briefly until everything is delivered.

        An exit code may be given instead: 0 is `finished`, any other is `failed`.
        """
        code = state if isinstance(state, int) else exit_code
        if code is not None:
            state = "failed" if code else "finished"
        self.end("finished" if state is None else state, error)
        self.settle()

    def __enter__(self) -> Run:
        return self

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return _missing(name, "A run of vr1z")

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        if error is None:
            self.finish("stopped" if self.should_stop else "finished")
        elif isinstance(error, KeyboardInterrupt):
            self.finish("stopped", "The script was interrupted.")
        else:
            self.finish("failed", f"{type(error).__name__}: {error}")

    # The methods below are for recorders of trainers.

    def begin(self, step: int = 0, **columns: Any) -> None:
        """Begin training, or continue after `step` updates."""
        self.guarded(lambda: self._begin(step, columns))

    def greet(self) -> None:
        """Wait briefly for the dashboard, so that a wrong address or token is reported at once.

        If it answers, also deliver the journals that earlier scripts left in this folder.
        """
        if self._courier.is_forked or isinstance(self._courier, _Mute):
            return
        self._courier.wait(GREET_SECONDS)
        if not self._courier.is_away and self._courier.refusal is None:
            left = (self.folder.parent, self.uid, self._courier.dashboard)
            threading.Thread(target=deliver_left, args=left, name="vr1z", daemon=True).start()

    def record(self, record: Mapping[str, Any], images: Sequence[bytes] = ()) -> None:
        """Add a record to the journal."""
        if not self._has_begun:
            self._begin(0, {})
        self._courier.take(record, images)

    def describe(self, columns: Mapping[str, Any], environment: Mapping[str, Any] | None = None) -> None:
        self.record({"type": "describe", "columns": dict(columns), "environment": plain(dict(environment or {}))})

    def example(self, question: Question) -> str:
        """Record a question, unless it was recorded recently; return its key."""
        if question.key not in self._examples:
            hashes = [hashlib.sha256(data).hexdigest() for data in question.images]
            record = {
                "type": "example",
                "key": question.key,
                "question": question.question,
                "prompt": question.prompt,
            }
            self.record(
                {**record, "gold": question.gold, "columns": question.columns, "images": hashes}, question.images
            )
            self._examples[question.key] = None
            while len(self._examples) > 10_000:
                self._examples.popitem(last=False)
            if question.missing_image_reason and not self._has_reported_image:
                self._has_reported_image = True
                self.report_problem(question.missing_image_reason)
        return question.key

    def detect_grammar(self, prompts: Sequence[Any]) -> None:
        """Detect from the prompts how the run's completions are parsed, and record it."""
        if self.grammar is not None:
            return
        texts = [json.dumps(prompt) for prompt in prompts]
        if any("<answer>" in text for text in texts):
            style = "cot" if any("<think>" in text for text in texts) else "direct"
            self.grammar = "ours"
            self.describe({"grammar": "ours", "style": style})
        elif any("boxed{" in text for text in texts):
            self.grammar = "boxed"
            self.describe({"grammar": "boxed"})

    def end(self, state: str, error: str | None = None) -> None:
        def tell() -> None:
            known_state = state if state in STATES else STATES[0]
            error_text = None if error is None else str(error)[:MAX_TEXT_LENGTH]
            self._courier.take({"type": "end", "state": known_state, "error": error_text, "at": time.time()})
            self._courier.is_alive = False

        if state not in STATES:
            _warn_once(f"A run cannot end as {state!r}: use one of {', '.join(STATES)}. It is recorded as {STATES[0]}.")
        if self._is_open:
            self._is_open = False
            self.guarded(tell)

    def settle(self) -> None:
        """Wait until everything is delivered or on disk; warn if something is not delivered."""
        courier = self._courier
        if courier.is_forked or courier.journal.next == self._settled:
            return
        self._settled = courier.journal.next
        if courier.wait(END_SECONDS):
            return
        if not courier.wait_for_disk(END_SECONDS):
            courier.warn(f"{self.folder} could not be written, so the last records of the run are lost.")
            if not (self.folder / LINES).is_file():
                return
        courier.warn(
            f"The dashboard does not have all records yet. Deliver the rest later, on the machine with its database: "
            f"`python -m store sync {self.folder}`."
        )

    def lose(self, error: object) -> None:
        """Count what cannot be recorded, and warn once."""
        self._courier.journal.lost += 1
        self._courier.journal.loss_reason = str(error)
        self._courier.warn(f"Something could not be recorded ({error}); training continues.")

    def close(self) -> None:
        """Finish the run when the script ends."""
        if os.getpid() != self._process:  # a forked child
            return
        atexit.unregister(self.close)
        if self._is_open:
            error = getattr(sys, "last_value", None)
            error_text = None if error is None else f"{type(error).__name__}: {error}"
            self.finish("finished" if error is None else "failed", error_text)
        elif self._has_begun:
            self.settle()
        self._courier.close()

    def _begin(self, step: int, columns: Mapping[str, Any]) -> None:
        self._has_begun = self._is_open = True
        self._courier.is_alive = True
        record = {"type": "begin", "version": JOURNAL_VERSION, "uid": self.uid, "step": step, "at": time.time()}
        folder = str(self.folder) if len(str(self.folder)) <= MAX_PATH_LENGTH else None
        origin = {"process": _process(), "environment": _environment(), "folder": folder}
        self._run.update(_columns(columns))
        self._courier.take({**record, "run": self._run, **origin})

    def _tell_config(self) -> None:
        def tell() -> None:
            settings = plain({**self._labels, **self.config})
            columns: dict[str, Any] = {"config": settings}
            if not self._is_named and (method := _method_of_settings(settings)):
                self._is_named = True
                columns["method"] = method
            self.describe(columns)

        self.guarded(tell)

    def _tell_summary(self) -> None:
        self.guarded(lambda: self.describe({}, {"summary": dict(self.summary)}))

    def _log(self, step: int, values: Mapping[Any, Any]) -> None:
        read = [(name, value, parse_number(value)) for name, value in flatten(values)]
        self.record(
            _step_record(step, {name: number for name, value, number in read if _is_number_or_missing(value, number)})
        )
        none = [(name, value) for name, value, number in read if not _is_number_or_missing(value, number)]
        if media := [name for name, value in none if _is_media(value)]:
            self.report_problem(
                f"Pictures and tables in metrics are left out: {_listed(media)}. Record prompts, pictures and answers "
                "with run.group(step, prompt, images, completions) or run.evaluation(step, benchmark, rows)."
            )
        if other := [name for name, value in none if not _is_media(value)]:
            self.report_problem(f"These metrics are left out because they are not numbers: {_listed(other)}.")

    def _group(
        self,
        step: int,
        row: Mapping[str, Any],
        texts: list[str],
        rewards: Mapping[str, Sequence[float | None]],
        advantages: Sequence[float | None],
        tokens: Sequence[int | None],
        truncated: Sequence[bool],
    ) -> None:
        question = question_of_row({name: value for name, value in row.items() if not is_absent(value)})
        if not self._is_named and (rewards or any(value is not None for value in advantages)):
            self._is_named = True
            self.describe({"method": DEFAULT_REWARD_METHOD})
        self.detect_grammar([question.prompt])
        if new_weights := {name: 1.0 for name in rewards if name not in self._weights}:
            self._weights.update(new_weights)
            self.describe({"reward_weights": dict(self._weights)})
        number = self._groups[1] if self._groups[0] == step else 0
        self._groups = (step, number + 1)
        key = self.example(question)
        completions = [
            {
                "text": text,
                "example": key,
                "generation": self._generations,
                "group": number,
                "index": i,
                "advantage": advantages[i],
                "tokens": tokens[i],
                "truncated": truncated[i],
                "rewards": {name: values[i] for name, values in rewards.items()},
            }
            for i, text in enumerate(texts)
        ]
        self._generations += 1
        self.record({**_step_record(step, {}), "completions": completions, "means": True})

    def _scores(self, name: object, rewards: Any, texts: Sequence[str]) -> list[float | None]:
        """Return the value of a reward for each completion."""
        values = self._value_per_completion(name, rewards, texts)
        numbers = [parse_number(value) for value in values]
        if excluded := [value for value, number in zip(values, numbers) if not _is_number_or_missing(value, number)]:
            self.report_problem(
                f"{name} of a completion is left out because it is not a number but {type(excluded[0]).__name__}."
            )
        return [*map(_finite, numbers)]

    def _value_per_completion(self, name: object, values: Any, texts: Sequence[str]) -> list[Any]:
        """Return one value per completion. If `values` is no list of that length, warn and return None for each."""
        missing = [None] * len(texts)
        if values is None:
            return missing
        entries = list(values) if isinstance(values, Iterable) and getattr(values, "ndim", None) != 0 else None
        if entries is not None and len(entries) == len(texts):
            return entries
        problem = "it is not a list" if entries is None else f"it has {len(entries)} of {len(texts)} entries"
        self.report_problem(
            f"{name} of a group is left out because {problem}: pass a list with one entry per completion."
        )
        return missing

    def report_problem(self, message: str) -> None:
        """Report once, in the log and on the run's page, what cannot be recorded."""
        if self._courier.warn(message):
            self.record({"type": "event", "kind": "recording_failed", "message": message, "at": time.time()})

    def _evaluation(self, step: int, benchmark: str, rows: Sequence[Mapping[str, Any]], greedy: bool) -> None:
        result_columns = ("completion", "correct", "rewards", "tokens", "truncated")
        answers = []
        for row in rows:
            question = question_of_row(
                {name: value for name, value in row.items() if name not in result_columns and not is_absent(value)}
            )
            answers.append(
                {
                    "text": completion_text(row.get("completion", "")),
                    "example": self.example(question),
                    "correct": _bool_or_none(row.get("correct")),
                    "tokens": _count(row.get("tokens")),
                    "truncated": bool(_bool_or_none(row.get("truncated"))),
                    "rewards": _numbers(row.get("rewards") or {}),
                }
            )
        self.answers(step, benchmark, answers, greedy=greedy)

    def answers(self, step: int, name: str, rows: Sequence[dict[str, Any]], *, greedy: bool) -> None:
        """Record an evaluation's answers in parts. Samples of one example are numbered from 1, or from 0 if greedy."""
        counts: dict[str, int] = {}
        step, name = _update_number(step), _limit_name(name) if name else ""
        for row in rows:
            row["sample"] = counts.get(row["example"], 0 if greedy else 1)
            counts[row["example"]] = row["sample"] + 1
        for offset in range(0, len(rows), MAX_EVALUATION_ROWS):
            record = {"type": "evaluation", "step": step, "name": name, "at": time.time(), "greedy": greedy}
            self.record(
                {
                    **record,
                    "first": offset,
                    "total": len(rows),
                    "rows": list(rows[offset : offset + MAX_EVALUATION_ROWS]),
                }
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10])[:500]


def _log_arguments(given: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, int | None, Any]:
    """Return values, step (None to count up) and `commit` from the arguments of `log`. Raises ValueError."""
    first, second, third, *_ = (*given, None, None, None)
    is_step_first = bool(given) and not isinstance(first, Mapping)
    values = first if given and not is_step_first else named.get("values", named.get("data", second))
    step = first if is_step_first else named.get("step", second if given else None)
    if not isinstance(values, Mapping):
        raise ValueError("metrics must be a dict, such as {'loss': 0.5}")
    is_counted = step is None and not is_step_first
    return values, None if is_counted else _update_number(step), named.get("commit", third)


def _step_record(step: int, values: Mapping[str, float | None], at: float | None = None) -> dict[str, Any]:
    metrics = {_limit_name(name): _finite(value) for name, value in values.items()}
    return {"type": "step", "step": _update_number(step), "at": time.time() if at is None else at, "metrics": metrics}


def _update_number(step: Any) -> int:
    """Return the number of an update. Raises ValueError if it is not one."""
    number = _count(step)
    if number is None:
        raise ValueError("a step must be a whole number of 0 or more")
    return number


def _process() -> dict[str, Any]:
    """Return what identifies this process uniquely; a pid alone may be reused."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    boot_id = boot.read_text().strip() if boot.exists() else None
    host = socket.gethostname()[:MAX_NAME_LENGTH] or "unknown"
    process = {"pid": os.getpid(), "started": _start_time(os.getpid()), "namespace": _namespace()}
    return {"host": host, "boot_id": boot_id, **process}


def _namespace() -> str | None:
    """Return the pid namespace, which tells containers of one machine apart: each has pids of its own."""
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return None


def _start_time(pid: Any) -> float | None:
    """Return when a process started, in clock ticks since boot; None if it does not exist or the system cannot tell."""
    with suppress(OSError, ValueError, IndexError):
        return float(Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()[19])
    return None


def _environment() -> dict[str, Any]:
    names = ("torch", "transformers", "trl", "peft", "accelerate", "unsloth", "verl", "swift")
    loaded = {name: str(getattr(sys.modules[name], "__version__", "")) for name in names if name in sys.modules}
    return {"python": platform.python_version(), "platform": platform.platform(), **loaded}


def start(
    name: str,
    config: Any = None,
    *,
    folder: str | Path = "vr1z-journals",
    method: str | None = None,
    model: str = "unknown",
    grammar: str | None = None,
    weights: Mapping[str, Any] | None = None,
    max_steps: int | None = None,
    seed: int | None = None,
    url: str | None = None,
) -> Run:
    """Start recording a run of your own training loop, named `name`.

    With several processes, as `torchrun`, `srun` and `mpirun` start them, each one that calls this has its own run;
    from the second one on, the rank is part of the name.

    `grammar` says how completions are parsed: `ours` (`<think>`, `<answer>`), `boxed` (`\\boxed{…}`) or `none`; by
    default it is detected from the prompts. `method` is a short word (`grpo`, `rloo`, `ppo`); by default it is the
    `algorithm` in `config`, or becomes `rl` with the first group that has rewards. `weights` are the weights of the
    rewards, 1 by default. The journal is written to `folder`.
    """
    return _start(
        name,
        folder=folder,
        url=url,
        config=config,
        method=method,
        model=model,
        grammar=grammar,
        weights=weights,
        max_steps=max_steps,
        seed=seed,
    )


def _start(name: Any, *, folder: str | Path = "vr1z-journals", url: str | None = None, **told: Any) -> Run:
    name = _name_with_rank(name)
    earlier = _RUNS_BY_NAME.pop(str(name), None)
    if "IPython" in sys.modules and earlier is not None:
        earlier.end("stopped", "The notebook cell was run again.")
    run = _RUNS_BY_NAME[str(name)] = Run(name, folder=Path(folder).absolute(), dashboard=Dashboard(url), **told)
    run.begin()
    run.greet()
    return run


_RUNS_BY_NAME: dict[str, Run] = {}
"""This process's latest run of each name."""


RANKS = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)
"""Variables in which `torchrun`, `srun` and `mpirun` tell a process its rank and the number of processes."""


def _name_with_rank(name: Any) -> Any:
    """Return a run's name with this process's rank, unless it is the first, as each process records its own run."""
    told = ((os.environ.get(rank, "").strip(), os.environ.get(size, "").strip()) for rank, size in RANKS)
    rank, size = next(((rank, size) for rank, size in told if rank.isdigit() and size.isdigit()), ("0", "1"))
    return f"{name} (rank {int(rank)})" if int(rank) > 0 and int(size) > 1 else name


# ---- The calls of Weights & Biases, for scripts with `import vr1z as wandb` ------------------------------------------

MEDIA = ("Image", "Table", "Histogram", "Video", "Audio", "Html", "Object3D", "Molecule", "Plotly", "Artifact")
"""Classes of Weights & Biases whose objects can be made, but are not recorded."""
IDLE = {
    **dict.fromkeys(("save", "log_artifact", "log_model", "log_code", "link_artifact"), "files are not recorded"),
    "define_metric": "curves are drawn over the step",
    "alert": "VR1Z_WEBHOOK of the dashboard tells of the end of runs",
    **dict.fromkeys(("watch", "unwatch"), "log norms of gradients as metrics"),
    **dict.fromkeys(("login", "setup", "mark_preempting"), "it is not needed"),
}
"""Functions of Weights & Biases that have no effect here, with the reason."""


class _Unrecorded:
    """Stands for a picture, a table or a file of Weights & Biases. Its methods do nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


def _is_media(value: Any) -> bool:
    """Return whether a logged value is a picture, a table or the like, or a list of them."""
    if isinstance(value, (list, tuple)):
        return any(map(_is_media, value[:1]))
    of_wandb = type(value).__module__.partition(".")[0] == "wandb"
    return of_wandb or isinstance(value, _Unrecorded) or callable(getattr(value, "getbands", None))


def _missing(name: str, who: str) -> Any:
    """Return a function that does nothing, if Weights & Biases has one of this name. Raises AttributeError."""
    if name in IDLE:

        def idle(*_: Any, **__: Any) -> None:
            _warn_once(f"{name} has no effect in vr1z: {IDLE[name]}.")

        return idle
    raise AttributeError(
        f"{who} has no {name!r}. It stands in for wandb's init, log, config, summary and finish; for anything else, "
        "import wandb beside it."
    )


def init(
    project: Any = None,
    *,
    name: Any = None,
    config: Any = None,
    tags: Any = None,
    notes: Any = None,
    dir: Any = None,
    mode: str | None = None,
    reinit: Any = None,
    **others: Any,
) -> Run:
    """Start recording a run with the arguments of `wandb.init`; those of `start` are accepted as well.

    The run is called `name`, or else like the project. With `mode="disabled"` nothing is recorded. If this process has
    an open run, that one is returned, unless `reinit` asks for a new one.
    """
    earlier = _latest()
    if earlier is not None and earlier._is_open and reinit != "create_new":
        if reinit in (None, False, "default", "return_previous") and "IPython" not in sys.modules:
            _warn_once(
                "init was called while a run was open, so that run goes on. Call finish before init for another."
            )
            if config is not None:
                earlier.config.update(config)
            return earlier
        earlier.finish()
    told = {each: others.pop(each) for each in [*others] if each in _OF_START}
    if others.get("resume") or others.get("id"):
        _warn_once("vr1z cannot resume a run of another process, so this is a new run.")
    labels = {"project": project, **{each: others.get(each) for each in ("entity", "group", "job_type")}}
    return _start(
        name or project or Path(sys.argv[0] or "run").stem,
        config=config,
        folder=told.pop("folder", Path(dir or ".") / "vr1z-journals"),
        labels={each: value for each, value in labels.items() if value is not None},
        tags=[str(tag)[:MOST_TAGS] for tag in _image_list(tags or ()) if str(tag)][:MOST_TAGS],
        note=None if notes is None else str(notes)[:MAX_TEXT_LENGTH],
        is_muted=mode == "disabled",
        **told,
    )


MOST_TAGS = 100
"""Most tags of a run, and most characters of a tag."""
_OF_START = ("folder", "method", "model", "grammar", "weights", "max_steps", "seed", "url")


def log(*given: Any, **named: Any) -> None:
    """Record metrics of the latest run, like `Run.log`."""
    run = _latest()
    if run is None:
        _warn_once("Nothing is recorded, because log was called before init.")
    else:
        run.log(*given, **named)


def finish(exit_code: Any = None, **_: Any) -> None:
    """End the latest run, like `Run.finish`."""
    run = _latest()
    if run is not None:
        run.finish(exit_code=exit_code)


def _latest() -> Run | None:
    """Return the run that this process started last."""
    return next(reversed(_RUNS_BY_NAME.values()), None)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        run = _latest() if name in ("run", "config", "summary") else None
        if name == "run":
            return run if run is not None and run._is_open else None
        if name in ("config", "summary"):
            return (
                getattr(run, name) if run is not None else Settings({}, lambda: _warn_once("Call init before config."))
            )
        if name in MEDIA:
            return _Unrecorded
        return _missing(name, "vr1z")


# ---- Trainers -------------------------------------------------------------------------------------------------------


def record(
    trainer: Any, *, name: str, grammar: str | None = None, url: str | None = None, dashboard: Any = None
) -> TrainerRecorder | None:
    """Record a trainer from TRL or transformers as a run, until the script ends.

    A GRPOTrainer's completions are recorded with their groups, prompts, images and columns. `grammar` is that of
    `start`. *Stop* in the dashboard ends training after the current step. With several processes, each must call this:
    the first records, and the others get None. None is also returned if the trainer cannot be recorded.
    """
    try:
        recorders = [
            callback
            for callback in trainer.callback_handler.callbacks
            if isinstance(callback, (TrainerRecorder, _StopSynchronizer))
        ]
        if recorders:  # a notebook cell that runs again
            logger.warning("This trainer is already being recorded; the second call has no effect.")
            return recorders[0] if isinstance(recorders[0], TrainerRecorder) else None
        return _record(trainer, name, grammar, dashboard or Dashboard(url))
    except Exception as error:
        logger.warning("This trainer cannot be recorded (%s: %s); training continues.", type(error).__name__, error)
        return None


def _record(trainer: Any, name: str, grammar: str | None, dashboard: Any) -> TrainerRecorder | None:
    from transformers import TrainerCallback

    does_sample = generates(trainer)
    if not trainer.is_world_process_zero():
        if does_sample:
            GenerationCapture(trainer, None, _read_question, opening, evaluations=True)
        trainer.add_callback(type("Agreeing", (_StopSynchronizer, TrainerCallback), {})())
        return None
    recorder_class = type("Recorder", (TrainerRecorder, TrainerCallback), {})
    recorder: TrainerRecorder = recorder_class(trainer, name, grammar, dashboard)
    if does_sample:
        GenerationCapture(trainer, recorder.keep, _read_question, opening, evaluations=True)
    trainer.add_callback(recorder)
    return recorder


class TrainerRecorder(Gatherer):
    """Records a trainer: begins a run when training begins, and ends it when training ends."""

    def __init__(self, trainer: Any, name: str, grammar: str | None, dashboard: Any) -> None:
        self._samples = generates(trainer)
        super().__init__(frozenset(_or_default(set[str](), shared_names, trainer)) if self._samples else frozenset())
        self._trainer, self._name, self._grammar, self._dashboard = trainer, name, grammar, dashboard
        self._agrees = getattr(trainer.args, "world_size", 1) > 1
        self._opened = self._trainings = 0
        self._is_training = False
        self._process = os.getpid()
        self.run = self._open()
        atexit.register(self.close)

    @property
    def run_uid(self) -> str:
        """Uid of the run in the dashboard; empty until the dashboard has answered."""
        return self.run._courier.run

    def log(self, *given: Any, **named: Any) -> None:
        """Record metrics of your own, like `Run.log`; without a step, they are those of the present update."""
        self.run.step = max(self.run.step, _or_default(0, lambda: int(self._trainer.state.global_step)))
        self.run.log(*given, **named)
        self.run.step = 0

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return what else the run has, such as `config`, `summary` and `url`."""
            if name.startswith("_") or name == "run":
                raise AttributeError(name)
            return getattr(self.run, name)

    def keep(self, generation: Generation) -> None:
        def take() -> None:
            rows = {row.key: row for row in generation.rows if row is not None}
            self.run.detect_grammar([row.prompt for row in rows.values()])
            for row in rows.values():
                self.run.example(row)
            rows_without_images = [None if row is None else row._replace(images=()) for row in generation.rows]
            Gatherer.keep(self, _replace(generation, rows=rows_without_images))

        self.guarded(take)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        super().on_train_begin(args, state, control)
        self.guarded(lambda: self._begin(state.global_step, state.max_steps))
        self.run.greet()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        super().on_step_end(args, state, control)
        if self.run.should_stop:
            control.should_training_stop = True
        if self._agrees:
            _synchronize_stop(control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        super().on_log(args, state, control, logs, **others)
        if logs and self._is_training and is_summary(logs):
            self.guarded(lambda: self.run.summary.update(summary_of(logs)))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        super().on_train_end(args, state, control)
        stopped = self.run.should_stop and state.global_step < state.max_steps
        self.guarded(lambda: self._end(state.global_step, "stopped" if stopped else "finished"))
        self.run.settle()

    def take_step(self, step: HeldStep) -> None:
        record = _step_record(step.step, step.metrics, step.at)
        self.run.record({**record, "completions": [row for rows in self._rows(step.generations) for row in rows]})

    def take_metrics(self, step: int, metrics: dict[str, float | None]) -> None:
        self.run.record({**_step_record(step, metrics), "at": None})

    def take_evaluation(self, name: str, generations: list[Generation]) -> None:
        rows = [row for rows in self._rows(generations) for row in rows if row["example"] is not None]
        self.run.answers(generations[0].step or 0, name, rows, greedy=False)

    def lose(self, error: object) -> None:
        self.run.lose(error)

    def close(self) -> None:
        """Record what is pending and finish the run when the script ends."""
        if os.getpid() != self._process:  # a forked child
            return
        atexit.unregister(self.close)
        self.guarded(self.send_pending)
        if self._is_training:
            error = getattr(sys, "last_value", None)
            error_text = f"{type(error).__name__}: {error}" if error else "The script ended before training did."
            self._finish("failed", error_text)
        self.run.close()

    def _open(self) -> Run:
        """Create the run for the next training."""
        trainer = self._trainer
        self._opened += 1
        weights = _or_default(dict[str, float](), reward_weights, trainer) if self._samples else {}
        return Run(
            f"{self._name} ({self._opened})" if self._opened > 1 else self._name,
            folder=Path(trainer.args.output_dir).absolute(),
            dashboard=self._dashboard,
            config=_or_default({}, lambda: trainer.args.to_sanitized_dict()),
            method=method_of(trainer),
            model=_or_default("unknown", model_name, trainer.model),
            grammar=self._grammar,
            weights=weights,
            lora_rank=_or_default(None, adapter_rank, trainer.model),
            seed=getattr(trainer.args, "seed", None),
            output_dir=str(trainer.args.output_dir),
        )

    def _begin(self, step: int, max_steps: int) -> None:
        """Begin a new run for training from step 0; for training from a checkpoint, continue the present one."""
        if self._is_training:
            self.send_pending()
            self._finish("failed", "Training was started again before it had ended.")
        if self._trainings and not step:
            self.run.close()
            self.run = self._open()
        self._trainings += 1
        self._is_training = True
        self.run.begin(step, max_steps=max_steps)

    def _end(self, step: int, state: str) -> None:
        self.send_pending()
        unlogged = self.without_mixed_means(_or_default({}, unlogged_means, self._trainer))
        if unlogged:
            self.take_metrics(step, unlogged)
        self._finish(state)

    def _finish(self, state: str, error: str | None = None) -> None:
        self._is_training = False
        self.run.end(state, error)

    def _rows(self, generations: Sequence[Generation]) -> list[list[dict[str, Any]]]:
        """Return the completions of generations as records; groups are numbered across generations."""
        records: list[list[dict[str, Any]]] = []
        groups = 0
        for generation in generations:
            size = generation.group_size
            records.append(
                [
                    {
                        "text": text,
                        "example": generation.rows[i].key
                        if generation.rows and generation.rows[i] is not None
                        else None,
                        "generation": generation.number,
                        "group": groups + i // size,
                        "index": i % size,
                        "advantage": generation.advantages[i],
                        "tokens": generation.lengths[i],
                        "truncated": generation.truncated[i],
                        "rewards": {
                            _limit_name(name): _finite(values[i]) for name, values in generation.rewards.items()
                        },
                    }
                    for i, text in enumerate(generation.texts)
                ]
            )
            groups += -(-len(generation.texts) // size)
        return records


class _StopSynchronizer:
    """Makes the other processes stop after the same step as the first."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        _synchronize_stop(control)


def _synchronize_stop(control: Any) -> None:
    """Make all processes stop when the first does; each must call this at the same point."""
    from accelerate.utils import broadcast_object_list

    flags = [control.should_training_stop]
    broadcast_object_list(flags)
    control.should_training_stop = flags[0]


def _replace(generation: Generation, **changes: Any) -> Generation:
    return Generation(**{**vars(generation), **changes})


def method_of(trainer: Any) -> str:
    """Return the training method named by a trainer's class or its nearest base class with a known name."""
    names = (_TRAINER_CLASS.match(kind.__name__) for kind in type(trainer).__mro__)
    return next((_METHODS[name[1]] for name in names if name), "unknown")


def _or_default(default: Value, read: Callable[..., Value], *args: Any) -> Value:
    """Return a property of a trainer, or the default if it cannot be read."""
    try:
        return read(*args)
    except Exception as error:
        logger.warning("A property of this trainer cannot be recorded (%s); training continues.", error)
        return default


def _read_question(row: Any) -> Question | None:
    """Return the question in a row; None if it is unreadable: its completions are then recorded without an example."""
    try:
        return question_of_row(row)
    except Exception as error:
        logger.warning("A dataset row cannot be recorded (%s: %s); training continues.", type(error).__name__, error)
        return None
