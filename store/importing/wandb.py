"""The `run-ID.wandb` file that W&B writes beside a run, offline or not. Reads history, config and name, no tables.

It is a log in LevelDB's framing, of W&B's protobuf records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from store.connection import StoreError
from store.importing.files import as_json, below, message_types
from store.importing.found import FoundRun

IDENT, BLOCK = b":W&B", 32768
LONGEST_NUMBER = 64
"""Characters of JSON: what is longer is no number, and need not be parsed."""
_PIECE = struct.Struct("<IHB")
"""Checksum, length, and whether a record is whole (1), begins (2), goes on (3) or ends (4) here."""
WHOLE, FIRST, LAST = 1, 2, 4
_ITEM = {"key": (1, "bytes"), "nested_key": (2, "*bytes"), "value_json": (16, "bytes")}
_MESSAGES = message_types(
    "records",
    {
        "Record": {"history": (2, "History"), "config": (5, "Config"), "run": (17, "Run")},
        "History": {"item": (1, "*Item"), "step": (2, "Step")},
        "Item": _ITEM | {"integer": (5, "sint64"), "number": (6, "double")},
        "Step": {"num": (1, "int64")},
        "Config": {"update": (1, "*Setting")},
        "Setting": _ITEM,
        "Run": {"run_id": (1, "bytes"), "project": (3, "bytes"), "config": (4, "Config"), "display_name": (8, "bytes")},
    },
)


def runs(path: str) -> list[FoundRun]:
    """Every run at or below `path`. Raises StoreError when there is none."""
    found = [_run(file) for file in below(path, "*.wandb")]
    if not found:
        raise StoreError(f"{path} holds no run of W&B: name a folder with a run-*.wandb file.")
    return found


def _run(path: Path) -> FoundRun:
    run = FoundRun(identity=path.stem, name=path.stem)
    for data in _records(path):
        try:
            record: Any = _MESSAGES["Record"].FromString(data)
        except DecodeError:
            continue
        if record.HasField("run"):
            run.identity = f"{_text(record.run.project)}\n{_text(record.run.run_id)}"
            run.name = _text(record.run.display_name or record.run.run_id)
            _configure(run, record.run.config)
        _configure(run, record.config)
        if record.HasField("history"):
            values = {_key(item): _value(item) for item in record.history.item}
            run.add(record.history.step.num, values, values.get("_timestamp"))
    return run


def _configure(run: FoundRun, config: Any) -> None:
    told = {_key(item): as_json(item.value_json) for item in config.update}
    run.config |= {name: value for name, value in told.items() if not name.startswith("_wandb")}


def _key(item: Any) -> str:
    return _text(item.key) or ".".join(map(_text, item.nested_key))


def _value(item: Any) -> object:
    if item.HasField("number"):
        return item.number
    if item.HasField("integer"):
        return item.integer
    return as_json(item.value_json) if len(item.value_json) <= LONGEST_NUMBER else None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _records(path: Path) -> Iterator[bytes]:
    """Whole records, up to the end or to where the writer was cut off. Raises StoreError for another kind of file."""
    begun = b""
    with path.open("rb") as file:
        block = file.read(BLOCK)
        if not block.startswith(IDENT):
            raise StoreError(f"{path} is not a run of W&B: remove it and try again.")
        at = _PIECE.size  # the ident is as long as a piece's header
        while block:
            while at + _PIECE.size <= len(block):
                _, length, kind = _PIECE.unpack_from(block, at)
                at += _PIECE.size
                data = block[at : at + length]
                at += length
                begun = data if kind in (WHOLE, FIRST) else begun + data
                if kind in (WHOLE, LAST):
                    yield begun
            block, at = file.read(BLOCK), 0
