"""Import the `run-ID.wandb` files that W&B writes, online or offline, each time a run starts or resumes.

History, config and name are read; tables and media are counted. A file is a log of W&B's protobuf records in LevelDB's
format.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from store.db.connection import StoreError
from store.importing.files import as_json, below, message_types, read_each
from store.importing.found import Found, FoundRun

IDENT, BLOCK = b":W&B", 32768
LONGEST_VALUE = 4096
"""Most characters of a JSON value; longer values are not numbers and need not be parsed."""
_PIECE = struct.Struct("<IHB")
"""Header: checksum, length, and whether the record is complete (1), begins (2), continues (3) or ends (4) here."""
WHOLE, FIRST, LAST = 1, 2, 4
_ITEM = {"key": (1, "bytes"), "nested_key": (2, "*bytes"), "value_json": (16, "bytes")}
_HISTORY_ITEM = _ITEM | {
    "boolean": (4, "bool"),
    "integer": (5, "sint64"),
    "number": (6, "double"),
    "text": (7, "bytes"),
    "json": (8, "bytes"),
}
_MESSAGES = message_types(
    "records",
    {
        "Record": {
            "history": (2, "History"),
            "config": (5, "Config"),
            "tensorboard": (9, "Anything"),
            "run": (17, "Run"),
            "request": (100, "Request"),
        },
        "Anything": {},
        "History": {"item": (1, "*Item"), "step": (2, "Step")},
        "Item": _HISTORY_ITEM,
        "Step": {"num": (1, "int64")},
        "Config": {"update": (1, "*Setting")},
        "Setting": _ITEM,
        "Request": {"partial_history": (10, "History")},
        "Run": {
            "run_id": (1, "bytes"),
            "project": (3, "bytes"),
            "config": (4, "Config"),
            "display_name": (8, "bytes"),
            "start_time": (17, "Time"),
        },
        "Time": {"seconds": (1, "int64")},
    },
)
_STARTED = re.compile(r"run-(\d{8}_\d{6})-")
"""The start time in a run folder's name, which is local time."""
MIRRORED = "W&B only mirrored TensorBoard files here. Import those files for their content."
DAMAGED = "Left out because they cannot be read"


def runs(path: str) -> Found:
    """Return every run at or below `path`; all files of a resumed run are one run."""
    files, unread = read_each(below(path, "*.wandb"), _file)
    together: dict[str, list[FoundRun]] = {}
    for run in files:
        together.setdefault(run.identity, []).append(run)
    return Found([_join_attempts(parts) for parts in together.values()], unread)


def _join_attempts(parts: list[FoundRun]) -> FoundRun:
    """Merge the attempts of one run, earliest first."""
    whole, *later = sorted(parts, key=lambda part: part.started_at or 0.0)
    for part in later:
        whole.continue_with(part)
    return whole


def _file(path: Path) -> FoundRun:
    """Return the run in one file. Raises StoreError for a file without records."""
    run = FoundRun(identity=path.stem, name=path.stem, started_at=_start_time(path))
    for data in _records(path, run.notes):
        try:
            record: Any = _MESSAGES["Record"].FromString(data)
        except DecodeError:
            run.left_out[DAMAGED]["records"] += 1
            continue
        if record.HasField("run"):
            _name(run, record.run)
        _configure(run, record.config)
        if record.HasField("tensorboard") and MIRRORED not in run.notes:
            run.notes.append(MIRRORED)
        for history in (record.history, record.request.partial_history):
            if history.item:
                _add(run, history)
    return run


def _name(run: FoundRun, record: Any) -> None:
    project, id = _text(record.project), _text(record.run_id)
    run.identity = f"{project}\n{id}"
    run.name = _text(record.display_name) or id
    run.longer_names = (f"{run.name} ({id})", f"{project}/{run.name} ({id})")
    run.started_at = float(record.start_time.seconds) or run.started_at
    _configure(run, record.config)


def _add(run: FoundRun, history: Any) -> None:
    values = _whole_objects({_key(item): _value(item) for item in history.item})
    # Older versions log the step only as one of the values.
    step = history.step.num if history.HasField("step") else values.get("_step")
    run.add(step, values, values.get("_timestamp"))


def _whole_objects(values: dict[str, object]) -> dict[str, object]:
    """Return the entry with each table or image as one value; W&B flattens them into several."""
    objects = {name.removesuffix("._type"): kind for name, kind in values.items() if name.endswith("._type")}
    entry = {name: value for name, value in values.items() if not any(name.startswith(f"{each}.") for each in objects)}
    return entry | {name: {"_type": kind} for name, kind in objects.items()}


def _start_time(path: Path) -> float | None:
    """Return when the writer of a file started, according to its folder's name."""
    match = _STARTED.search(path.parent.name)
    try:
        return datetime.strptime(match[1], "%Y%m%d_%H%M%S").timestamp() if match else None
    except (ValueError, OverflowError):
        return None


def _configure(run: FoundRun, config: Any) -> None:
    settings = {_key(item): as_json(item.value_json) for item in config.update}
    run.config |= {name: value for name, value in settings.items() if not name.startswith("_wandb")}


def _key(item: Any) -> str:
    return _text(item.key) or ".".join(map(_text, item.nested_key))


def _value(item: Any) -> object:
    """Return a number, or the kind of anything else."""
    for field in ("number", "integer", "boolean"):
        if item.HasField(field):
            return getattr(item, field)
    if item.HasField("text"):
        return _text(item.text)
    written = item.value_json or item.json
    return as_json(written) if len(written) <= LONGEST_VALUE else _text(written[:1])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _records(path: Path, notes: list[str]) -> Iterator[bytes]:
    """Yield complete records up to the end, or up to where the file is cut off, and add a note of that."""
    read, partial, is_cut = 0, None, False
    with path.open("rb") as file:
        block = file.read(BLOCK)
        if not block:
            raise StoreError(f"{path} is empty. Its writer has not written anything yet, or died.")
        if not block.startswith(IDENT):
            raise StoreError(f"{path} is not a W&B run.")
        at = _PIECE.size  # the identifier is as long as a piece's header
        while block:
            while at + _PIECE.size <= len(block):
                _, length, kind = _PIECE.unpack_from(block, at)
                at += _PIECE.size
                data = block[at : at + length]
                at += length
                partial = data if kind in (WHOLE, FIRST) else None if partial is None else partial + data
                if partial is not None and len(data) == length and kind in (WHOLE, LAST):
                    yield partial
                    read, partial = read + 1, None
            is_cut = len(block) < BLOCK and at != len(block)
            block, at = file.read(BLOCK), 0
    if not read:
        raise StoreError(f"{path} has no records yet.")
    if partial is not None or is_cut:
        notes.append(f"{path.name} is cut off after {read:,} records. It is still being written, or its writer died.")
