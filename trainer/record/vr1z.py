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
from typing import Any, Callable, NamedTuple, TypeVar

__all__ = ["Run", "record", "start"]

JOURNAL_VERSION = 1
URL = "http://127.0.0.1:8501"
"""Default address of the dashboard; VR1Z_URL overrides it."""
TOKEN_FILE = ""
"""Default path of a file with the dashboard's token; VR1Z_TOKEN and VR1Z_TOKEN_FILE override it."""

LINES, IMAGES, DELIVERED = "journal.jsonl", "images", "delivered.json"
PREFIX = "vr1z-"
"""Prefix of a journal's folder name, followed by the run's uid."""
MOST_MEMORY = 64 * 2**20
"""Most bytes that may wait to be written to disk; records beyond that are dropped and counted."""
MOST_SENT = 4 * 2**20
"""Most bytes of lines in one request, unless a single line is longer."""
MOST_ROWS = 500
"""Most answers in one evaluation record."""
BEAT_SECONDS = 2.0
RETRY_SECONDS = 2.0
TIMEOUT_SECONDS = 20.0
BEGIN_SECONDS = 2.0
"""Seconds to wait for the dashboard when training starts, so that a wrong address or token is reported at once."""
QUIET_SECONDS = 60.0
"""Seconds without a write after which a script on another machine counts as ended."""
END_SECONDS = 10.0
"""Seconds to wait at the end of training until every record is delivered, or at least on disk."""

logger = logging.getLogger("vr1z")
Value = TypeVar("Value")


# ---- Values: convert a script's values to JSON and image files ------------------------------------------------------

GOLD = (
    *("answer", "answers", "solution", "gold", "gold_answer", "ground_truth", "correct_answer", "final_answer"),
    *("reference_answer", "target", "label", "labels", "count", "bbox", "boxes"),
)
"""Columns that may hold a gold answer, likeliest first; case is ignored."""
PICTURES = ("image", "images")
NEVER = ("prompt", *PICTURES, "completion", "chosen", "rejected", "messages", "completion_ids")
LONGEST_TEXT = 20_000
"""Most characters kept of a value."""
LONGEST_COMPLETION = 4_000_000
LONGEST_NAME = 200
"""Most characters of a name; longer names are cut and end in a hash, so that they stay distinct."""
LARGEST = 1e100
"""Largest magnitude that a journal holds; larger numbers are treated as infinite."""
LARGEST_COUNT = 2**31 - 1
MOST_ENTRIES = 1000
DEEPEST = 8
MOST_PICTURE_BYTES = 32 * 2**20
"""Most bytes of an image file that is kept unchanged."""
LARGE = 1_500_000
"""Pixels above which an image is stored as JPEG, because encoding a PNG would take seconds."""
FORMATS = {"PNG", "JPEG", "WEBP", "GIF"}


class Asked(NamedTuple):
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
    unread: str = ""
    """Why an image is missing, if one is; otherwise empty."""


def asked(row: Mapping[str, Any], encode: Callable[[Any], bytes | None] | None = None) -> Asked:
    """Return the question in a dataset row. `encode` turns an image into the bytes of a file (default: `encoded`)."""
    prompt = row.get("prompt", row.get("messages"))
    pictures = _pictures(row, prompt)
    files = [(encode or encoded)(picture) for picture in pictures]
    images = tuple(data for data in files if data is not None)
    unread = next((_why_unread(picture) for picture, data in zip(pictures, files) if data is None), "")
    gold_column = gold_name(row)
    gold = None if gold_column is None else plain(row[gold_column])
    columns = {str(name): plain(value) for name, value in row.items() if name not in (*NEVER, gold_column)}
    kept = plain(prompt)
    content = [kept, gold, columns, [hashlib.sha256(data).hexdigest() for data in images]]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
    return Asked(key, question(kept) or _shortened(kept), kept, gold, columns, images, unread)


def _shortened(prompt: Any) -> str:
    """Return a prompt without text, such as one of token ids, as JSON."""
    has_words = any(isinstance(turn, dict) for turn in _items(prompt))
    return "" if prompt is None or has_words else json.dumps(prompt)[:LONGEST_NAME]


def gold_name(row: Mapping[str, Any]) -> str | None:
    """Return the name of the column with the gold answer, if any."""
    names = {str(name).lower(): name for name, value in row.items() if not is_absent(value)}
    return next((str(names[word]) for word in GOLD if word in names), None)


def question(prompt: Any) -> str:
    """Return the last user turn of a prompt as text. A prompt without messages is returned as text."""
    turns = [turn for turn in (prompt if isinstance(prompt, list) else [prompt]) if isinstance(turn, dict)]
    if not turns:
        return text_of(prompt)
    asking = [turn for turn in turns if turn.get("role", turn.get("from")) in ("user", "human")] or turns
    return text_of(asking[-1].get("content", asking[-1].get("value")))


def text_of(content: Any) -> str:
    """Return the text parts of a message's content, one per line."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return text_of(content.get("text") or content.get("content") or "")
    return "\n".join(filter(None, map(text_of, content))) if isinstance(content, list) else ""


def said(completion: Any) -> str:
    """Return a completion as text: one message's content, or all turns of several, tool calls included."""
    if completion is None or isinstance(completion, str):
        return (completion or "")[:LONGEST_COMPLETION]
    turns = [turn for turn in _items([completion] if isinstance(completion, Mapping) else completion)]
    if len(turns) == 1 and isinstance(turns[0], Mapping) and not turns[0].get("tool_calls"):
        return text_of(plain(turns[0].get("content")))
    return "\n".join(map(_turn, turns)) if turns else str(completion)


def _turn(turn: Any) -> str:
    if not isinstance(turn, Mapping):
        return str(turn)
    calls = [json.dumps(plain(call)) for call in _items(turn.get("tool_calls"))]
    return "\n".join([f"{turn.get('role', '')}: {text_of(plain(turn.get('content')))}".strip(), *calls])


def _pictures(row: Mapping[str, Any], prompt: Any) -> list[Any]:
    """Return the images in the columns that TRL reads, or else those in the prompt's messages."""
    for name in ("images", "image"):
        value = row.get(name)
        if value is not None and not (isinstance(value, (list, tuple)) and not value):
            return _several(value)
    turns = [prompt] if isinstance(prompt, Mapping) else _items(prompt)
    parts = [part for turn in turns for part in _items(_get(turn, "content"))]
    found = (_get(part, "image") if _get(part, "image") is not None else _get(part, "image_url") for part in parts)
    return [picture for picture in found if picture is not None]


def _several(value: Any) -> list[Any]:
    """Return the images in a list of any depth, an iterator or a stack of arrays, or a single image in a list."""
    if isinstance(value, (list, tuple)):
        return [picture for each in value if each is not None for picture in _several(each)]
    is_iterator = hasattr(value, "__next__") and not hasattr(value, "read")
    return list(value) if is_iterator or getattr(value, "ndim", 0) == 4 else [value]


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _opened(picture: Any) -> Any:
    """Unwrap a cell of 🤗 Datasets or a part of a message: return an image, bytes or a path."""
    if isinstance(picture, Mapping):
        picture = next((picture[name] for name in ("bytes", "path", "image", "url") if picture.get(name)), None)
    if callable(getattr(picture, "read", None)):
        place = picture.tell()
        data = picture.read()
        picture.seek(place)
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


def _why_unread(picture: Any) -> str:
    """Return a sentence on why an image cannot be recorded."""
    if isinstance(picture, Mapping):
        picture = next((picture[name] for name in ("path", "image", "url") if picture.get(name)), picture)
    is_place = isinstance(picture, (str, Path)) and len(str(picture)) < LONGEST_PATH
    if is_place and _WEB.match(str(picture)):
        what = f"{str(picture)[:200]} is a web address; pass the image itself or a path"
    elif is_place and not os.path.exists(str(picture)):
        what = f"the file {str(picture)[:200]} does not exist"
    elif is_place:
        what = f"{str(picture)[:200]} is not a readable image file"
    else:
        what = f"a value of type {type(picture).__name__} cannot be read as an image"
    return f"A question is recorded without its image: {what}."


def encoded(picture: Any) -> bytes | None:
    """Return an image (PIL, bytes, path, array, data URL or 🤗 Datasets cell) as a file's bytes; None if unreadable."""
    try:
        from PIL import Image
    except ImportError:
        return _unchanged(picture)
    try:
        picture = _opened(picture)
        if isinstance(picture, (str, Path)):
            path = Path(picture)
            if not path.is_file() or path.stat().st_size > MOST_PICTURE_BYTES:
                return None
            picture = path.read_bytes()
        if isinstance(picture, (bytes, bytearray, memoryview)):
            data = bytes(picture)
            opened = Image.open(io.BytesIO(data))
            is_kept = opened.format in FORMATS and len(data) <= MOST_PICTURE_BYTES
            return data if is_kept else _written(opened)
        return _written(picture if isinstance(picture, Image.Image) else Image.fromarray(_as_array(picture)))
    except Exception:  # decoders raise a dozen kinds of exception for damaged files
        return None


def _unchanged(picture: Any) -> bytes | None:
    """Return the bytes of an image file when Pillow is not installed."""
    try:
        picture = _opened(picture)
        data = Path(picture).read_bytes() if isinstance(picture, (str, Path)) else bytes(picture)
    except (OSError, TypeError, ValueError):
        return None
    begins = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")
    return data if data.startswith(begins) and len(data) <= MOST_PICTURE_BYTES else None


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
        is_share = array.dtype.kind == "b" or (array.dtype.kind == "f" and float(array.max(initial=0)) <= 1.0)
        top = 255.0 if is_share else 1.0
        array = np.clip(array * top, 0, 255).astype(np.uint8)
    return array


def _as_array_of(image: Any) -> Any:
    import numpy as np

    return np.clip(np.asarray(image).astype("float64"), 0, 65535)


def _written(image: Any) -> bytes:
    from PIL import Image, ImageCms

    buffer = io.BytesIO()
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    elif image.mode == "La":
        image = image.convert("LA")
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
    """Convert a value to JSON types: NaN becomes None, arrays become lists, and images and bytes a short description.

    Texts, lists and nesting beyond the limits are cut.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, (int, float)):
        return value if -LARGEST <= value <= LARGEST else str(as_number(value))
    if isinstance(value, str):
        if value.startswith("data:image"):
            return "<image>"
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}…"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value):,} bytes>"
    if depth >= DEEPEST:
        return "…"
    if isinstance(value, (argparse.Namespace, SimpleNamespace)) or (_is_dataclass(value)):
        value = _fields(value)
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(name): plain(each, depth + 1) for name, each in list(value.items())[:MOST_ENTRIES]}
    if isinstance(value, (list, tuple, set, frozenset)):
        entries = [plain(each, depth + 1) for each in list(value)[:MOST_ENTRIES]]
        return entries if len(value) <= MOST_ENTRIES else [*entries, "…"]
    if hasattr(value, "size") and hasattr(value, "mode") and hasattr(value, "getbands"):
        return f"<image of {value.size[0]} × {value.size[1]}>"
    if callable(to_list := getattr(value, "tolist", None)):
        return plain(to_list(), depth + 1)
    return str(value)[:LONGEST_TEXT]


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of an object, or of a class with settings, including inherited ones but no methods."""
    kind = value if isinstance(value, type) else type(value)
    found: dict[str, Any] = {}
    for each in reversed(kind.__mro__[:-1]):
        for name, field_ in vars(each).items():
            is_own = not (name.startswith("_") or hasattr(field_, "__get__") or callable(field_))
            is_slot = type(field_).__name__ == "member_descriptor" and hasattr(value, name)
            if is_own or (is_slot and value is not kind):
                found[name] = getattr(value, name, None)
    return found if value is kind else {**found, **getattr(value, "__dict__", {})}


def named_values(logs: Mapping[Any, Any], before: str = "") -> list[tuple[str, Any]]:
    """Return names and values, nested ones as `outer/inner`."""
    found: list[tuple[str, Any]] = []
    for key, value in logs.items():
        name = f"{before}{key}"
        found += named_values(value, f"{name}/") if isinstance(value, Mapping) else [(name, value)]
    return found


def flattened(logs: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    """Return names and numbers, nested ones as `outer/inner`. Values that are not numbers are left out."""
    read = ((name, value, as_number(value)) for name, value in named_values(logs))
    return [(name, number) for name, value, number in read if number is not None or value is None]


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
    if isinstance(value, str) and len(value) <= LONGEST_NAME:
        with suppress(ValueError):
            return float(value)
    return float(value) if isinstance(value, bool) else as_number(value)


def _reward(value: Any) -> float | None:
    """Return a reward as a number that a journal can hold."""
    return _finite(parse_number(value))


def _is_number_or_missing(value: Any, number: float | None) -> bool:
    """Return whether a metric is a number or is explicitly missing."""
    return number is not None or is_absent(value)


def _verdict(value: Any) -> bool | None:
    """Return a value as a bool; None if it is unknown."""
    number = _reward(value)
    return None if number is None else bool(number)


def _finite(value: float | None) -> float | None:
    """Return the number, or None if a journal cannot hold it (NaN, infinite or too large)."""
    return value if value is not None and -LARGEST <= value <= LARGEST else None


def _count(value: Any) -> int | None:
    """Return a non-negative whole number of any numeric type as an int; None for anything else."""
    number = as_number(value)
    whole = int(number) if number is not None and 0 <= number <= LARGEST_COUNT else None
    return whole if whole == number else None


def _named(name: Any) -> str:
    """Return a name that is not empty and has at most LONGEST_NAME characters."""
    text = str(name) or "(no name)"
    if len(text) <= LONGEST_NAME:
        return text
    return f"{text[: LONGEST_NAME - 9]}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _numbers(values: Mapping[Any, Any]) -> dict[str, float | None]:
    return {_named(name): _reward(value) for name, value in values.items()}


def _settings(config: Any) -> dict[str, Any]:
    """Return a configuration (a mapping, or an object with attributes) as JSON types."""
    if config is None or isinstance(config, Mapping):
        return dict(plain(config or {}))
    if isinstance(config, tuple) and hasattr(config, "_asdict"):
        return dict(plain(config._asdict()))
    has_fields = any(hasattr(config, each) for each in ("__dict__", "__slots__"))
    return dict(plain(_fields(config) if has_fields else {"config": config}))


_ALGORITHMS = ("method", "algorithm", "algo", "rl_algorithm", "adv_estimator", "advantage_estimator")
"""Names of settings with the training method."""
SAMPLES = "rl"
"""Method of a run with rewards if nothing names it."""
_ALIASES = {"gae": "ppo", "reinforce_plus_plus": "reinforce_pp"}


def _method_named(name: Any) -> str:
    """Return a method's name in the form that a journal can hold."""
    word = re.sub("[^a-z0-9_]+", "_", str(name or "").lower().replace("++", "_pp")).strip("_")
    return _ALIASES.get(word, word)[:16] or "unknown"


def _method_of_settings(settings: Any, depth: int = 0) -> str | None:
    """Return the method named in a configuration, such as those of verl."""
    if not isinstance(settings, Mapping) or depth > 2:
        return None
    for name in _ALGORITHMS:
        if isinstance(settings.get(name), str) and settings[name].strip():
            return _method_named(settings[name])
    return next((found for each in settings.values() if (found := _method_of_settings(each, depth + 1))), None)


def _say(text: str) -> None:
    """Log a warning, once for each text."""
    if text not in _SAID:
        _SAID.add(text)
        logger.warning(text)


_SAID: set[str] = set()


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
        self.why = ""
        """Why the last of them could not be read; empty if the disk could not keep up."""
        self.next = 0
        """The number of the next record."""
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        """Images not yet on disk, by hash."""
        self._known: OrderedDict[str, None] = OrderedDict()
        """Hashes of recently added images."""
        self._size = 0
        self._lock = threading.Lock()
        self._cursor = (0, 0)
        """A record's number, and the byte offset in the file at which it or a later record begins."""

    def add(self, record: Mapping[str, Any], images: Sequence[bytes] = ()) -> bool:
        """Add a record; return False if the buffer is full."""
        text = json.dumps(record, default=str)
        new = {hashlib.sha256(data).hexdigest(): data for data in images}
        with self._lock:
            new = {name: data for name, data in new.items() if name not in self._known}
            size = len(text) + sum(map(len, new.values()))
            if self._size + size > MOST_MEMORY:
                self.lost += 1
                self.why = ""
                return False
            self._waiting.append((self.next, f'{{"seq": {self.next}, {text[1:]}\n'.encode("ascii")))
            self._pictures.update(new)
            self._known.update(dict.fromkeys(new))
            while len(self._known) > 10_000:
                self._known.popitem(last=False)
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
                new = path.with_name(f".{name}")
                _make_private(new)
                new.write_bytes(data)
                os.replace(new, path)
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

    def lines(self, first: int, most: int = MOST_SENT) -> tuple[list[bytes], int]:
        """Return about `most` bytes of lines, beginning with number `first`, and the number that follows them.

        Lines on disk come first, without damaged ones, and then buffered lines. Raises OSError if the lines on disk
        cannot be read.
        """
        with self._lock:
            waiting = list(self._waiting)
        are_here = bool(waiting) and waiting[0][0] <= first
        found, after = ([], first) if are_here else self._from_disk(first, most)
        size = sum(map(len, found))
        for number, line in waiting:
            if number >= after and size < most:
                found.append(line)
                size += len(line)
                after = number + 1
        return found, after

    def _from_disk(self, first: int, most: int) -> tuple[list[bytes], int]:
        found: list[bytes] = []
        size, after = 0, first
        place = self._cursor[1] if self._cursor[0] <= first else 0
        with suppress(FileNotFoundError), (self.folder / LINES).open("rb") as file:
            file.seek(place)
            while size < most:
                line = file.readline()
                if not line.endswith(b"\n"):
                    break
                match = _SEQUENCE.match(line)
                if match and int(match[1]) >= after:
                    found.append(line)
                    size += len(line)
                    after = int(match[1]) + 1
                place = file.tell()
        self._cursor = (after, place)
        return found, after

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
        whole = file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(whole)
            raise


# ---- Delivery: from the journal to the dashboard --------------------------------------------------------------------


class Away(Exception):
    """The dashboard cannot be reached at the moment."""


class Refused(Exception):
    """The dashboard does not accept this journal; the message says why."""


class Unfit(Refused):
    """The dashboard does not accept this request: it is too large, or its content is invalid."""


class Answer(NamedTuple):
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
    ) -> Answer:
        """Deliver lines of a journal, beginning with number `first`; without lines, this is a heartbeat.

        `without` holds hashes of images that are lost. With `is_alive=False` the request does not count as a heartbeat.
        Raises Away or Refused.
        """
        place = f"/api/record/{uid}?from={first}" + "".join(f"&without={name}" for name in without)
        place += "" if is_alive else "&left=1"
        told = self._ask("POST", place, b"".join(lines), "application/jsonl")
        try:
            return Answer(int(told["next"]), int(told["stop"]), str(told["run"]), tuple(map(str, told["missing"])))
        except (KeyError, TypeError, ValueError):
            raise Refused(f"{self.url} is not a Vision-R1-Zero dashboard: set VR1Z_URL to its address.") from None

    def put_image(self, name: str, data: bytes) -> None:
        """Deliver an image. Raises Away, Refused, or Unfit if the dashboard cannot show it."""
        self._ask("PUT", f"/api/record/images/{name}", data, "application/octet-stream")

    def _ask(self, method: str, path: str, body: bytes, kind: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": kind, "User-Agent": "vr1z"}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as answer:
                told = json.loads(answer.read(2**20))
        except urllib.error.HTTPError as error:
            with error:
                words = error.read(2000).decode("utf-8", "replace").strip()
            words = words if words and "<" not in words else f"{self.url} answers {error.code}."
            if error.code in (404, 405):
                words = f"{self.url} does not accept records ({error.code}): set VR1Z_URL to the dashboard's address."
            if error.code in (413, 422):
                raise Unfit(words) from None
            if error.code in (400, 401, 403, 404, 405, 410):
                raise Refused(words) from None
            raise Away(words) from None
        except ValueError:
            raise Away(f"{self.url} answers, but not like a Vision-R1-Zero dashboard: check VR1Z_URL.") from None
        except (OSError, http.client.HTTPException) as error:
            raise Away(f"{self.url} does not answer: {getattr(error, 'reason', error)}") from None
        return told if isinstance(told, dict) else {}

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
        self.is_left = False
        """Whether this journal belongs to a script that ended before delivering it."""
        self.delivered = 0
        """Number of the first record that the dashboard does not have."""
        self.refused: str | None = None
        """Why the dashboard no longer accepts records, once it has said so."""
        self.is_away = False
        """Whether the last request to the dashboard got no answer."""
        self._most = MOST_SENT
        """Most bytes of lines that the dashboard, or a proxy in front of it, accepts in one request."""
        self._missing: tuple[str, ...] = ()
        """Hashes of images for which the dashboard asked last."""
        self._without: list[str] = []
        """Hashes of images for which the dashboard asked but that cannot be delivered."""
        self._said: set[str] = set()
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
            if not self.journal.add(_lost(lost, self.journal.why)):
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
        is_new = text not in self._said
        if is_new:
            self._said.add(text)
            logger.warning(text)
        return is_new

    def _begin(self) -> None:
        if not self._threads and not self._closed:
            for work in (self._write, self._deliver):
                thread = threading.Thread(target=work, name="vr1z", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _is_settled(self) -> bool:
        is_useless = self.refused is not None or self.is_away
        return self.delivered >= self.journal.next or (is_useless and not self.journal.is_waiting)

    def _write(self) -> None:
        while not (self._closed and not self.journal.is_waiting):
            self._wake.wait(BEAT_SECONDS)
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
        while self.refused is None:
            more = False
            try:
                more = self._deliver_some()
                self.is_away = False
            except Refused as error:
                self.refused = str(error)
                self.warn(f"{str(error).rstrip('.')}. Training continues and is recorded in {self.journal.folder}.")
            except Away as error:
                self.warn(
                    f"{str(error).rstrip('.')}. Training continues; its records are kept in {self.journal.folder}."
                )
                self.is_away = True
            except Exception as error:  # a bug of this file must be reported once only
                self.warn(f"Records could not be delivered ({error!r}); training continues.")
                self.is_away = True
            with self._arrived:
                self._arrived.notify_all()
            if self._closed and not more:
                return
            if self.is_away:
                self._retry.wait(RETRY_SECONDS)
                self._retry.clear()
            elif not more:
                self._wake_sender.wait(BEAT_SECONDS)
                self._wake_sender.clear()

    def _deliver_some(self) -> bool:
        """Deliver one request's worth of records; return whether there are more."""
        lines, _ = self.journal.lines(self.delivered, self._most)
        if not lines and not self.is_alive:
            return False
        try:
            answer = self.dashboard.put(self.uid, self.delivered, lines, self._without, is_alive=not self.is_left)
        except Unfit:
            if len(lines) < 2:
                raise
            self._most = sum(map(len, lines)) // 4
            return True
        self._without = []
        for name in answer.missing:
            try:
                if (data := self.journal.image(name)) is None:
                    raise Unfit(f"Image {name} is missing from {self.journal.folder}.")
                self.dashboard.put_image(name, data)
            except Unfit as error:
                self.warn(f"{error} Its example will be shown without it.")
                self._without.append(name)
        self.stop = max(self.stop, answer.stop)
        if answer.run and not self.run:
            self.run = answer.run
            what = "records of an earlier script are" if self.is_left else "recording"
            print(f"vr1z: {what} at {self.dashboard.page(answer.run)}", file=sys.stderr)
        went_on = answer.next != self.delivered or answer.missing != self._missing
        self.delivered, self._missing = answer.next, answer.missing
        if went_on:
            self._note()
        return bool(lines) and went_on and (answer.next < self.journal.next or bool(answer.missing))

    def deliver_rest(self) -> None:
        """Deliver the journal of a script that has ended, in the calling thread. Raises Away or Refused."""
        self.is_left = True
        while self._deliver_some():
            pass

    def _note(self) -> None:
        """Save how much has been delivered: a hint for whoever delivers this folder later."""
        with suppress(OSError):
            path = self.journal.folder / DELIVERED
            _make_private(path)
            path.write_text(json.dumps({"next": self.delivered, "run": self.run}), encoding="ascii")


def _lost(count: int, why: str = "") -> dict[str, Any]:
    what = "1 record of the training is" if count == 1 else f"{count} records of the training are"
    message = f"{what} lost: {why or 'the disk could not keep up with the script'}."
    return {"type": "event", "kind": "recording_failed", "message": message, "at": time.time()}


def deliver_left(place: Path, own: str, dashboard: Any) -> None:
    """Deliver the journals in a folder that killed scripts left behind, except the caller's own.

    The next script that records there tries again what cannot be delivered now.
    """
    with suppress(Away, OSError):
        for path in sorted(place.glob(f"{PREFIX}*/{LINES}")):
            uid, process = _begun(path)
            number = _last_number(path) + 1
            noted = _noted(path.with_name(DELIVERED))
            if uid in ("", own) or noted >= number or _is_running(process, path):
                continue
            courier = Courier(uid, Journal(path.parent), dashboard)
            courier.journal.next, courier.delivered = number, noted
            with suppress(Refused):
                courier.deliver_rest()


def _begun(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Return the uid and the process of the script that wrote a journal; an empty uid if the journal is unreadable."""
    try:
        with path.open("rb") as file:
            record = json.loads(file.readline(2**20))
        return str(record["uid"]), dict(record["process"])
    except (OSError, ValueError, TypeError, KeyError):
        return "", {}


def _is_running(process: Mapping[str, Any], journal: Path) -> bool:
    """Return whether the process may still run. On another machine or in another container, recent writes decide."""
    here = _process()
    if process.get("host") != here["host"] or process.get("namespace", here["namespace"]) != here["namespace"]:
        return time.time() - journal.stat().st_mtime < QUIET_SECONDS
    if process.get("boot_id") != here["boot_id"]:
        return False
    if (process.get("pid"), process.get("started")) == (here["pid"], here["started"]):
        return True
    return _started(process.get("pid")) == process.get("started") is not None


def _last_number(path: Path) -> int:
    """Return the number of a journal's last complete line; -1 if it has none."""
    with path.open("rb") as file:
        end = size = file.seek(0, os.SEEK_END)
        found = b""
        while size and found.count(b"\n") < 2:
            size = max(0, size - 2**16)
            file.seek(size)
            found = file.read(end - size)
    lines = found[: found.rfind(b"\n") + 1].splitlines()
    match = _SEQUENCE.match(lines[-1]) if lines else None
    return int(match[1]) if match else -1


def _noted(path: Path) -> int:
    """Return the number of the first record that the dashboard lacked when it last answered."""
    try:
        return int(json.loads(path.read_bytes())["next"])
    except (OSError, ValueError, TypeError, KeyError):
        return 0


# ---- Capture: read what a TRL trainer samples and logs --------------------------------------------------------------

PLAIN = (str, int, float, bool)
SUMMARY = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")
"""Keys of the summary in a training's last log entry; only that entry has `train_loss`."""
_METHODS = {
    **{name: name.lower() for name in ("GRPO", "RLOO", "SFT", "DPO", "KTO", "ORPO", "CPO", "BCO", "XPO", "PPO", "GKD")},
    "OnlineDPO": "online_dpo",
    "NashMD": "nash_md",
    "Reward": "reward",
}
"""Method names by the prefix of TRL's trainer classes."""
_NAMED = re.compile(rf"_?(?:Unsloth)?({'|'.join(_METHODS)})Trainer\Z")
"""Unsloth replaces TRL's classes by its own, whose names begin with `Unsloth`."""
_EVERY_ENTRY = ("epoch", "total_flos")
_LAST = 32
"""How many of the prompt's last tokens are searched for an opening that the chat template adds."""
_OPENED = re.compile(r"<think>\s*\Z")
_NEAR_THE_END = 100


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
            ("_calculate_rewards", self._timed_score),
            ("_generate_and_score_completions", self._captured),
        ):
            if callable(original := getattr(trainer, name, None)):
                self._originals[name] = original
                setattr(trainer, name, wrapper)
        if "_generate_and_score_completions" not in self._originals:
            self._warn("the trainer has no method _generate_and_score_completions")

    def _warn(self, why: object) -> None:
        if not self._warned:
            logger.warning(
                "Not all of the completions can be recorded with this TRL version (%s); training continues.", why
            )
        self._warned = True

    def _timed_generate(self, *args: Any, **named: Any) -> Any:
        start = time.perf_counter()
        output = self._originals["_generate"](*args, **named)
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
        return [self._opening(decode(ids[-_LAST:])) for ids in prompts]

    def _timed_score(self, *args: Any, **named: Any) -> Any:
        original = self._originals["_calculate_rewards"]
        start = time.perf_counter()
        rewards = original(*args, **named)
        self._scoring_seconds = time.perf_counter() - start
        try:
            given = inspect.signature(original).bind(*args, **named).arguments
            ids = next(given[name] for name in ("completion_ids_list", "completion_ids") if name in given)
            self._ids, self._rewards = [_whole_numbers(each) for each in ids], rewards
        except Exception as error:
            self._warn(error)
        return rewards

    def _captured(self, *args: Any, **named: Any) -> Any:
        self._ids = self._rewards = None
        self._openings = []
        self._generation_seconds = self._scoring_seconds = 0.0
        start = time.perf_counter()
        output = self._originals["_generate_and_score_completions"](*args, **named)
        try:
            if "_generate" not in self._originals:  # TRL before 0.24 samples here, and otherwise only scores
                self._generation_seconds = time.perf_counter() - start - self._scoring_seconds
                if "prompt_ids" in output:
                    self._openings = self._openings_of(output["prompt_ids"].tolist())
            if self._evaluations or self._trainer.model.training:
                self._hand_over(args[0] if args else named["inputs"], output)
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
        parts = _gathered([own])
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
            kept = zip(output["completion_ids"].tolist(), output["completion_mask"].tolist())
            ids = [[token for token, used in zip(*row) if used] for row in kept]
        advantages = output.get("advantages")
        if len(ids) != len(inputs):
            raise ValueError(f"{len(ids)} completions for {len(inputs)} rows")
        # A group may begin on one process and end on the next.
        first = self._trainer.accelerator.process_index * len(inputs)
        kept_rows: list[Any] = []
        for i, row in enumerate(inputs):
            same = i > 0 and (first + i) % self._group_size()
            kept_rows.append(None if self._keep is None else kept_rows[-1] if same else self._keep(row))
        return _Part(
            [{name: row[name] for name in row if isinstance(row[name], PLAIN)} for row in inputs],
            ids,
            [None] * len(ids) if advantages is None else advantages.tolist(),
            kept_rows,
            self._openings if len(self._openings) == len(ids) else [""] * len(ids),
        )

    def _assemble(self, number: int, parts: Sequence[_Part]) -> Generation:
        trainer = self._trainer
        tokenizer = _tokenizer(trainer)
        ends = end_tokens(trainer)
        ids = [each for part in parts for each in part.ids]
        columns = [] if self._rewards is None else self._rewards[: len(ids)].tolist()
        openings = [text for part in parts for text in part.openings]
        names = reward_names(trainer) if columns else []
        return Generation(
            number=number,
            inputs=[row for part in parts for row in part.inputs],
            ids=ids,
            texts=[begun + decoded(tokenizer, each, ends) for begun, each in zip(openings, ids)],
            lengths=[len(each) for each in ids],
            truncated=[not each or each[-1] not in ends for each in ids],
            rewards={name: [_known(row[i]) for row in columns] for i, name in enumerate(names)},
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


def _gathered(rows: list[Any]) -> list[Any]:
    from accelerate.utils import gather_object

    found: list[Any] = gather_object(rows)
    return found


def _whole_numbers(ids: Any) -> list[int]:
    return [int(token) for token in (ids.tolist() if hasattr(ids, "tolist") else ids)]


def _known(value: float) -> float | None:
    return None if value != value else value


def _tokenizer(trainer: Any) -> Any:
    processing = trainer.processing_class
    return getattr(trainer, "_tokenizer", None) or getattr(processing, "tokenizer", processing)


def end_tokens(trainer: Any) -> set[int]:
    """Return the ids of the tokens that end a completion."""
    declared = getattr(trainer, "eos_token_ids", None)
    if declared is None:
        declared = getattr(trainer, "eos_token_id", None)
    if declared is None:
        declared = _tokenizer(trainer).eos_token_id
    ids = declared if isinstance(declared, (list, tuple, set)) else [declared]
    return {token for token in ids if token is not None}


def decoded(tokenizer: Any, ids: Sequence[int], ends: set[int]) -> str:
    """Decode token ids without end and padding tokens at the end; other special tokens stay visible."""
    kept = list(ids)
    while kept and (kept[-1] in ends or kept[-1] == tokenizer.pad_token_id):
        kept.pop()
    text: str = tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def opening(prompt: str) -> str:
    """Return `<think>` and the white space after it if a rendered prompt ends with them; otherwise an empty text."""
    match = _OPENED.search(prompt[-_NEAR_THE_END:])
    return match.group() if match else ""


def generates(trainer: Any) -> bool:
    """Return whether a trainer samples completions during training."""
    return hasattr(trainer, "_generate_and_score_completions")


def reward_names(trainer: Any) -> list[str]:
    """Return the names of the reward functions; repeated names get a number: `name (2)`."""
    found: list[str] = []
    for name in map(str, trainer.reward_func_names):
        number = 1
        while (own := name if number == 1 else f"{name} ({number})") in found:
            number += 1
        found.append(own)
    return found


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
    left_out = (*_EVERY_ENTRY, *SUMMARY) if is_summary(logs) else _EVERY_ENTRY
    prefix = evaluation_of(logs) or "eval"
    found: dict[str, float | None] = {}
    for name, value in flattened(logs):
        if name not in left_out:
            strays = name.startswith("eval_") and not name.startswith(f"{prefix}_")
            found[f"{prefix}_{name[5:]}" if strays else name] = value
    return found


def summary(logs: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the summary in a training's last log entry."""
    return {name: value for name, value in flattened(logs) if name in SUMMARY}


def unlogged_means(trainer: Any) -> dict[str, float | None]:
    """Return the means of metrics that TRL has gathered but never logs if training ends with an evaluation."""
    gathered = getattr(trainer, "_metrics", None)
    values = gathered.get("train", {}) if isinstance(gathered, Mapping) else {}
    found: dict[str, float | None] = {}
    for name, each in values.items():
        numbers = [number for number in map(as_number, each) if number is not None and number == number]
        if each:
            found[str(name)] = sum(numbers) / len(numbers) if numbers else None
    return found


# ---- Steps: assign completions and metrics to updates ---------------------------------------------------------------


@dataclass
class Held:
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
        self.measuring = 0.0
        """Seconds of the current step spent on measurements of our own, such as token statistics."""
        self._pending: list[Generation] = []
        self._evaluated: list[Generation] = []
        """Samples of the current evaluation."""
        self._held: Held | None = None
        self._step_began: float | None = None
        self._since_tokens = 0.0
        """Duration in seconds of the steps since the trainer last logged its token count."""
        self._last_log = time.perf_counter()

    def take_step(self, step: Held) -> None:
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
        self.guarded(self.send_held)
        self._step_began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.guarded(lambda: self._end_step(state.global_step, control.should_log))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and state.is_world_process_zero:
            self.guarded(lambda: self._log(state.global_step, logs))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.guarded(self.send_held)

    def send_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self.take_step(held)

    def send_pending(self) -> None:
        """Record the completions of an update or evaluation that never ended."""
        self.send_held()
        self._send_evaluated("")
        pending, self._pending = self._pending, []
        for generation in pending:
            self.take_step(Held(generation.step or 0, time.time(), [generation], {}))

    def named(self, metrics: Mapping[str, float | None]) -> dict[str, float | None]:
        """Return metrics without means that mix several rewards of one name."""
        theirs = {f"rewards/{name}/{figure}" for name in self.shared for figure in ("mean", "std")}
        return {name: value for name, value in metrics.items() if name not in theirs}

    def _end_step(self, step: int, will_log: bool) -> None:
        self.send_held()
        now = time.perf_counter()
        self._hold(step, now - (self._last_log if self._step_began is None else self._step_began))
        self._step_began, self._last_log = None, now
        if not will_log:
            self.send_held()

    def _log(self, step: int, logs: Mapping[str, Any]) -> None:
        found = self.named(metrics(logs))
        evaluated = evaluation_of(logs)
        if evaluated is not None:
            self._send_evaluated(evaluated[4:].strip("_") if evaluated.startswith("eval") else evaluated)
        is_held = self._held is not None and self._held.step == step
        if not is_held and any(each.step is None for each in self._pending):  # the trainer does not report steps
            self._end_step(step, True)
            is_held = True
        if is_held and self._held is not None and evaluated is None:
            pace = self._pace(found.get("num_tokens"), bool(self._held.generations))
            self._held.metrics.update({**found, **pace})
            found = {}
        self.send_held()
        if found:
            self.take_metrics(step, found)
        self._last_log = time.perf_counter()

    def _pace(self, tokens: float | None, samples: bool) -> dict[str, float | None]:
        """Return tokens per second for training without sampling."""
        if tokens is None:
            return {}
        seconds, self._since_tokens = self._since_tokens, 0.0
        counted, self.last_tokens = max(0.0, tokens - self.last_tokens), tokens
        return {"tokens_per_second": counted / seconds} if seconds and not samples else {}

    def _hold(self, step: int, elapsed: float) -> None:
        """Hold a step that has ended, and record earlier ones whose end was not reported."""
        due: dict[int, list[Generation]] = {}
        left: list[Generation] = []
        for generation in self._pending:
            own = step if generation.step is None else generation.step
            (due.setdefault(own, []) if own <= step else left).append(generation)
        self._pending = left
        self._since_tokens += elapsed
        for own, generations in sorted(due.items()):
            if own < step:
                self.take_step(Held(own, time.time(), generations, self._shared_means(generations)))
        generations = due.get(step, [])
        figures = {**self._times(generations, elapsed), **self._shared_means(generations)}
        self._held = Held(step, time.time(), generations, figures)

    def _times(self, generations: Sequence[Generation], elapsed: float) -> dict[str, float | None]:
        found: dict[str, float | None] = {"time/step": elapsed}
        if generations:
            generating = sum(each.generation_seconds for each in generations)
            scoring = sum(each.scoring_seconds for each in generations)
            found["time/generation"] = generating
            found["time/scoring"] = scoring
            found["time/tokens"] = self.measuring
            found["time/update"] = max(0.0, elapsed - generating - scoring - self.measuring)
            if elapsed:
                found["tokens_per_second"] = sum(sum(each.lengths) for each in generations) / elapsed
        self.measuring = 0.0
        return found

    def _shared_means(self, generations: Sequence[Generation]) -> dict[str, float | None]:
        """Return the means of rewards that share a name, which TRL does not log separately."""
        found: dict[str, float | None] = {}
        for name in dict.fromkeys(name for each in generations for name in each.rewards):
            if any(name == shared or name.startswith(f"{shared} (") for shared in self.shared):
                values = [value for each in generations for value in each.rewards.get(name, ()) if value is not None]
                found[f"reward/{name}"] = sum(values) / len(values) if values else None
        return found

    def _send_evaluated(self, name: str) -> None:
        generations, self._evaluated = self._evaluated, []
        if generations:
            self.take_evaluation(name, generations)


def _components(rewards: Any) -> Mapping[Any, Any]:
    """Return rewards by component; one dict per completion is accepted, too."""
    if rewards is None or isinstance(rewards, Mapping):
        return rewards or {}
    given = list(rewards) if hasattr(rewards, "__next__") else rewards
    if isinstance(given, (list, tuple)) and given and all(isinstance(each, Mapping) for each in given):
        names = dict.fromkeys(name for each in given for name in each)
        return {name: [each.get(name) for each in given] for name in names}
    return {"reward": given}


# ---- Runs -----------------------------------------------------------------------------------------------------------


GRAMMARS = ("ours", "boxed", "none")
STATES = ("finished", "stopped", "failed")
COUNTS = ("lora_rank", "seed", "max_steps")
LONGEST_PATH = 1000


def _columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's further columns as a journal can hold them."""
    found = {name: _count(value) if name in COUNTS else value for name, value in columns.items()}
    if len(str(found.get("output_dir"))) > LONGEST_PATH:
        found["output_dir"] = None
    return found


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
        **columns: Any,
    ) -> None:
        self.uid = secrets.token_hex(5)
        self.folder = folder / f"{PREFIX}{self.uid}"
        if grammar not in (None, *GRAMMARS):
            _say(f"Unknown grammar {grammar!r}: use one of {', '.join(GRAMMARS)}. It is now detected from the prompts.")
            grammar = None
        self.grammar = grammar
        settings = _settings(config)
        method = method or _method_of_settings(settings)
        self._is_named = method is not None
        self._weights = _numbers(weights or {})
        self._run = {
            "name": _named(name),
            "method": _method_named(method),
            "model": str(model or "unknown")[:400],
            "grammar": grammar or "none",
            "config": settings,
            "reward_weights": self._weights,
            **_columns(columns),
        }
        self._courier = Courier(self.uid, Journal(self.folder), dashboard or Dashboard())
        self._examples: OrderedDict[str, None] = OrderedDict()
        """Keys of recently recorded examples."""
        self._groups: tuple[int, int] = (-1, 0)
        """The latest step with groups, and how many groups it has."""
        self._generations = 0
        self._settled = 0
        """Number of records for whose delivery `settle` has waited."""
        self._has_begun = self._is_open = self._is_blind = False
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

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Record metrics of update `step`: numbers of any kind; nested mappings become `outer/inner`."""

        def take() -> None:
            if not isinstance(values, Mapping):
                raise ValueError("metrics must be a dict, such as {'loss': 0.5}")
            read = [(name, value, parse_number(value)) for name, value in named_values(values)]
            self.record(
                _step(step, {name: number for name, value, number in read if _is_number_or_missing(value, number)})
            )
            if none := [name for name, value, number in read if not _is_number_or_missing(value, number)]:
                self.mention(f"These metrics are left out because they are not numbers: {', '.join(none[:10])[:500]}.")

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
            texts = [said(each) for each in ([completions] if isinstance(completions, str) else completions)]
            self._group(
                step,
                {"prompt": prompt, "images": images, "answer": answer, **columns},
                texts,
                {_named(name): self._scores(name, given, texts) for name, given in _components(rewards).items()},
                [_finite(as_number(value)) for value in self._each("advantages", advantages, texts)],
                [_count(value) for value in self._each("tokens", tokens, texts)],
                [bool(_verdict(value)) for value in self._each("truncated", truncated, texts)],
            )

        self.guarded(take)

    def evaluation(self, step: int, benchmark: str, rows: Sequence[Mapping[str, Any]], *, greedy: bool = True) -> None:
        """Record the answers to a benchmark after `step` updates.

        Each row has `prompt` and `completion`, and may have `images`, `answer` (the gold answer), `correct`, `rewards`
        (numbers by name), `tokens` and further columns. Several rows with the same question are samples for it.
        """
        self.guarded(lambda: self._evaluation(step, benchmark, rows, greedy))

    def finish(self, state: str = "finished", error: str | None = None) -> None:
        """End the run as `finished`, `stopped` or `failed`, and wait briefly until everything is delivered."""
        self.end(state, error)
        self.settle()

    def __enter__(self) -> Run:
        return self

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
        if self._courier.is_forked:
            return
        self._courier.wait(BEGIN_SECONDS)
        if not self._courier.is_away and self._courier.refused is None:
            left = (self.folder.parent, self.uid, self._courier.dashboard)
            threading.Thread(target=deliver_left, args=left, name="vr1z", daemon=True).start()

    def record(self, record: Mapping[str, Any], images: Sequence[bytes] = ()) -> None:
        """Add a record to the journal."""
        if not self._has_begun:
            self._begin(0, {})
        self._courier.take(record, images)

    def describe(self, columns: Mapping[str, Any], environment: Mapping[str, Any] | None = None) -> None:
        self.record({"type": "describe", "columns": dict(columns), "environment": plain(dict(environment or {}))})

    def example(self, one: Asked) -> str:
        """Record a question, unless it was recorded recently; return its key."""
        if one.key not in self._examples:
            hashes = [hashlib.sha256(data).hexdigest() for data in one.images]
            record = {"type": "example", "key": one.key, "question": one.question, "prompt": one.prompt}
            self.record({**record, "gold": one.gold, "columns": one.columns, "images": hashes}, one.images)
            self._examples[one.key] = None
            while len(self._examples) > 10_000:
                self._examples.popitem(last=False)
            if one.unread and not self._is_blind:
                self._is_blind = True
                self.mention(one.unread)
        return one.key

    def tell_form(self, prompts: Sequence[Any]) -> None:
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
            known = state if state in STATES else STATES[0]
            told = None if error is None else str(error)[:LONGEST_TEXT]
            self._courier.take({"type": "end", "state": known, "error": told, "at": time.time()})
            self._courier.is_alive = False

        if state not in STATES:
            _say(f"A run cannot end as {state!r}: use one of {', '.join(STATES)}. It is recorded as {STATES[0]}.")
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
        self._courier.journal.why = str(error)
        self._courier.warn(f"Something could not be recorded ({error}); training continues.")

    def close(self) -> None:
        """Finish the run when the script ends."""
        if os.getpid() != self._process:  # a forked child
            return
        atexit.unregister(self.close)
        if self._is_open:
            error = getattr(sys, "last_value", None)
            told = None if error is None else f"{type(error).__name__}: {error}"
            self.finish("finished" if error is None else "failed", told)
        elif self._has_begun:
            self.settle()
        self._courier.close()

    def _begin(self, step: int, columns: Mapping[str, Any]) -> None:
        self._has_begun = self._is_open = True
        self._courier.is_alive = True
        record = {"type": "begin", "version": JOURNAL_VERSION, "uid": self.uid, "step": step, "at": time.time()}
        folder = str(self.folder) if len(str(self.folder)) <= LONGEST_PATH else None
        where = {"process": _process(), "environment": _environment(), "folder": folder}
        self._run.update(_columns(columns))
        self._courier.take({**record, "run": self._run, **where})

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
        one = asked({name: value for name, value in row.items() if not is_absent(value)})
        if not self._is_named and (rewards or any(value is not None for value in advantages)):
            self._is_named = True
            self.describe({"method": SAMPLES})
        self.tell_form([one.prompt])
        if new := {name: 1.0 for name in rewards if name not in self._weights}:
            self._weights.update(new)
            self.describe({"reward_weights": dict(self._weights)})
        number = self._groups[1] if self._groups[0] == step else 0
        self._groups = (step, number + 1)
        key = self.example(one)
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
        self.record({**_step(step, {}), "completions": completions, "means": True})

    def _scores(self, name: object, given: Any, texts: Sequence[str]) -> list[float | None]:
        """Return the value of a reward for each completion."""
        values = self._each(name, given, texts)
        numbers = [parse_number(value) for value in values]
        if none := [value for value, number in zip(values, numbers) if not _is_number_or_missing(value, number)]:
            self.mention(f"{name} of a completion is left out because it is not a number but {type(none[0]).__name__}.")
        return [*map(_finite, numbers)]

    def _each(self, what: object, given: Any, texts: Sequence[str]) -> list[Any]:
        """Return one value per completion. If `given` is no list of that length, warn and return None for each."""
        nothing = [None] * len(texts)
        if given is None:
            return nothing
        found = list(given) if isinstance(given, Iterable) and getattr(given, "ndim", None) != 0 else None
        if found is not None and len(found) == len(texts):
            return found
        told = "it is not a list" if found is None else f"it has {len(found)} of {len(texts)} entries"
        self.mention(f"{what} of a group is left out because {told}: pass a list with one entry per completion.")
        return nothing

    def mention(self, message: str) -> None:
        """Report once, in the log and on the run's page, what cannot be recorded."""
        if self._courier.warn(message):
            self.record({"type": "event", "kind": "recording_failed", "message": message, "at": time.time()})

    def _evaluation(self, step: int, benchmark: str, rows: Sequence[Mapping[str, Any]], greedy: bool) -> None:
        told = ("completion", "correct", "rewards", "tokens", "truncated")
        answers = []
        for row in rows:
            one = asked({name: value for name, value in row.items() if name not in told and not is_absent(value)})
            answers.append(
                {
                    "text": said(row.get("completion", "")),
                    "example": self.example(one),
                    "correct": _verdict(row.get("correct")),
                    "tokens": _count(row.get("tokens")),
                    "truncated": bool(_verdict(row.get("truncated"))),
                    "rewards": _numbers(row.get("rewards") or {}),
                }
            )
        self.answers(step, benchmark, answers, greedy=greedy)

    def answers(self, step: int, name: str, rows: Sequence[dict[str, Any]], *, greedy: bool) -> None:
        """Record an evaluation's answers in parts. Samples of one example are numbered from 1, or from 0 if greedy."""
        counts: dict[str, int] = {}
        step, name = _update(step), _named(name) if name else ""
        for row in rows:
            row["sample"] = counts.get(row["example"], 0 if greedy else 1)
            counts[row["example"]] = row["sample"] + 1
        for place in range(0, len(rows), MOST_ROWS):
            record = {"type": "evaluation", "step": step, "name": name, "at": time.time(), "greedy": greedy}
            self.record({**record, "first": place, "total": len(rows), "rows": list(rows[place : place + MOST_ROWS])})


def _step(step: int, values: Mapping[str, float | None], at: float | None = None) -> dict[str, Any]:
    found = {_named(name): _finite(value) for name, value in values.items()}
    return {"type": "step", "step": _update(step), "at": time.time() if at is None else at, "metrics": found}


def _update(step: Any) -> int:
    """Return the number of an update. Raises ValueError if it is not one."""
    number = _count(step)
    if number is None:
        raise ValueError("a step must be a whole number of 0 or more")
    return number


def _process() -> dict[str, Any]:
    """Return what identifies this process uniquely; a pid alone may be reused."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    known = boot.read_text().strip() if boot.exists() else None
    host = socket.gethostname()[:LONGEST_NAME] or "unknown"
    own = {"pid": os.getpid(), "started": _started(os.getpid()), "namespace": _namespace()}
    return {"host": host, "boot_id": known, **own}


def _namespace() -> str | None:
    """Return the pid namespace, which tells containers of one machine apart: each has pids of its own."""
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return None


def _started(pid: Any) -> float | None:
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

    With several processes, as `torchrun` starts them, each one that calls this has its own run; from the second one on,
    the rank is part of the name.

    `grammar` says how completions are parsed: `ours` (`<think>`, `<answer>`), `boxed` (`\\boxed{…}`) or `none`; by
    default it is detected from the prompts. `method` is a short word (`grpo`, `rloo`, `ppo`); by default it is the
    `algorithm` in `config`, or becomes `rl` with the first group that has rewards. `weights` are the weights of the
    rewards, 1 by default. The journal is written to `folder`.
    """
    name = _of_rank(name)
    if "IPython" in sys.modules and (earlier := _STARTED.get(str(name))) is not None:
        earlier.end("stopped", "The notebook cell was run again.")
    run = _STARTED[str(name)] = Run(
        name,
        folder=Path(folder).absolute(),
        dashboard=Dashboard(url),
        config=config,
        method=method,
        model=model,
        grammar=grammar,
        weights=weights,
        max_steps=max_steps,
        seed=seed,
    )
    run.begin()
    run.greet()
    return run


_STARTED: dict[str, Run] = {}
"""This process's latest run of each name."""


def _of_rank(name: Any) -> Any:
    """Return a run's name with this process's rank, unless it is the first, as each process records its own run."""
    rank = os.environ.get("RANK", "0").strip()
    is_other = rank.isdigit() and int(rank) > 0 and os.environ.get("WORLD_SIZE", "1").strip() not in ("", "1")
    return f"{name} (rank {int(rank)})" if is_other else name


# ---- Trainers -------------------------------------------------------------------------------------------------------


def record(
    trainer: Any, *, name: str, grammar: str | None = None, url: str | None = None, dashboard: Any = None
) -> Trainer | None:
    """Record a trainer from TRL or transformers as a run, until the script ends.

    A GRPOTrainer's completions are recorded with their groups, prompts, images and columns. `grammar` is that of
    `start`. *Stop* in the dashboard ends training after the current step. With several processes, each must call this:
    the first records, and the others get None. None is also returned if the trainer cannot be recorded.
    """
    try:
        known = [each for each in trainer.callback_handler.callbacks if isinstance(each, (Trainer, _Agreeing))]
        if known:  # a notebook cell that runs again
            logger.warning("This trainer is already being recorded; the second call has no effect.")
            return known[0] if isinstance(known[0], Trainer) else None
        return _record(trainer, name, grammar, dashboard or Dashboard(url))
    except Exception as error:
        logger.warning("This trainer cannot be recorded (%s: %s); training continues.", type(error).__name__, error)
        return None


def _record(trainer: Any, name: str, grammar: str | None, dashboard: Any) -> Trainer | None:
    from transformers import TrainerCallback

    samples = generates(trainer)
    if not trainer.is_world_process_zero():
        if samples:
            GenerationCapture(trainer, None, _read_question, opening, evaluations=True)
        trainer.add_callback(type("Agreeing", (_Agreeing, TrainerCallback), {})())
        return None
    kind = type("Recorder", (Trainer, TrainerCallback), {})
    recorder: Trainer = kind(trainer, name, grammar, dashboard)
    if samples:
        GenerationCapture(trainer, recorder.keep, _read_question, opening, evaluations=True)
    trainer.add_callback(recorder)
    return recorder


class Trainer(Gatherer):
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

    def keep(self, generation: Generation) -> None:
        def take() -> None:
            rows = {row.key: row for row in generation.rows if row is not None}
            self.run.tell_form([row.prompt for row in rows.values()])
            for row in rows.values():
                self.run.example(row)
            lean = [None if row is None else row._replace(images=()) for row in generation.rows]
            Gatherer.keep(self, _with(generation, rows=lean))

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
            _agree(control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        super().on_log(args, state, control, logs, **others)
        if logs and self._is_training and is_summary(logs):
            self.guarded(lambda: self.run.describe({}, {"summary": summary(logs)}))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        super().on_train_end(args, state, control)
        stopped = self.run.should_stop and state.global_step < state.max_steps
        self.guarded(lambda: self._end(state.global_step, "stopped" if stopped else "finished"))
        self.run.settle()

    def take_step(self, step: Held) -> None:
        record = _step(step.step, step.metrics, step.at)
        self.run.record({**record, "completions": [row for rows in self._rows(step.generations) for row in rows]})

    def take_metrics(self, step: int, metrics: dict[str, float | None]) -> None:
        self.run.record({**_step(step, metrics), "at": None})

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
            told = f"{type(error).__name__}: {error}" if error else "The script ended before training did."
            self._finish("failed", told)
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
        left = self.named(_or_default({}, unlogged_means, self._trainer))
        if left:
            self.take_metrics(step, left)
        self._finish(state)

    def _finish(self, state: str, error: str | None = None) -> None:
        self._is_training = False
        self.run.end(state, error)

    def _rows(self, generations: Sequence[Generation]) -> list[list[dict[str, Any]]]:
        """Return the completions of generations as records; groups are numbered across generations."""
        found: list[list[dict[str, Any]]] = []
        groups = 0
        for each in generations:
            size = each.group_size
            found.append(
                [
                    {
                        "text": text,
                        "example": each.rows[i].key if each.rows and each.rows[i] is not None else None,
                        "generation": each.number,
                        "group": groups + i // size,
                        "index": i % size,
                        "advantage": each.advantages[i],
                        "tokens": each.lengths[i],
                        "truncated": each.truncated[i],
                        "rewards": {_named(name): _finite(values[i]) for name, values in each.rewards.items()},
                    }
                    for i, text in enumerate(each.texts)
                ]
            )
            groups += -(-len(each.texts) // size)
        return found


class _Agreeing:
    """Makes the other processes stop after the same step as the first."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        _agree(control)


def _agree(control: Any) -> None:
    """Make all processes stop when the first does; each must call this at the same point."""
    from accelerate.utils import broadcast_object_list

    words = [control.should_training_stop]
    broadcast_object_list(words)
    control.should_training_stop = words[0]


def _with(generation: Generation, **changes: Any) -> Generation:
    return Generation(**{**vars(generation), **changes})


def method_of(trainer: Any) -> str:
    """Return the training method named by a trainer's class or its nearest base class with a known name."""
    names = (_NAMED.match(kind.__name__) for kind in type(trainer).__mro__)
    return next((_METHODS[name[1]] for name in names if name), "unknown")


def _or_default(default: Value, take: Callable[..., Value], *given: Any) -> Value:
    """Return a property of a trainer, or the default if it cannot be read."""
    try:
        return take(*given)
    except Exception as error:
        logger.warning("A property of this trainer cannot be recorded (%s); training continues.", error)
        return default


def _read_question(row: Any) -> Asked | None:
    """Return the question in a row; None if it is unreadable: its completions are then recorded without an example."""
    try:
        return asked(row)
    except Exception as error:
        logger.warning("A dataset row cannot be recorded (%s: %s); training continues.", type(error).__name__, error)
        return None
