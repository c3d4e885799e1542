"""TensorBoard's event files: a folder of them is a run. Reads scalars; texts, pictures and histograms stay behind."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from store.connection import StoreError
from store.importing.files import below, message_types
from store.importing.found import FoundRun

PATTERN = "*tfevents*"
_HEADER, _FOOTER = struct.Struct("<QI"), 4
"""Length and its checksum; a checksum of the data follows them."""
_MESSAGES = message_types(
    "events",
    {
        "Event": {"wall_time": (1, "double"), "step": (2, "int64"), "summary": (5, "Summary")},
        "Summary": {"value": (1, "*Value")},
        "Value": {"tag": (1, "bytes"), "simple_value": (2, "float"), "tensor": (8, "Tensor")},
        "Tensor": {"float_val": (5, "*float")},
    },
)


def runs(path: str) -> list[FoundRun]:
    """Every folder at or below `path` whose event files hold scalars. Raises StoreError when there is none."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for file in below(path, PATTERN):
        folders[file.parent].append(file)
    found = [run for folder, files in folders.items() if (run := _run(folder, files)).metrics]
    if not found:
        raise StoreError(f"{path} holds no scalars of TensorBoard: name a folder with *tfevents* files.")
    return found


def _run(folder: Path, files: list[Path]) -> FoundRun:
    # The name of an event file holds time, host and process of its writer.
    run = FoundRun(identity=files[0].name, name=folder.name)
    for file in files:
        for event in _events(file):
            for value in event.summary.value:
                number = _scalar(value)
                if number is not None:
                    run.add(event.step, {value.tag.decode("utf-8", "replace"): number}, event.wall_time)
    return run


def _scalar(value: Any) -> float | None:
    if value.HasField("simple_value"):
        return float(value.simple_value)
    return float(value.tensor.float_val[0]) if len(value.tensor.float_val) == 1 else None


def _events(path: Path) -> Iterator[Any]:
    """Events up to the end, or to where the writer was cut off. Raises StoreError for a file that holds none."""
    read = 0
    with path.open("rb") as file:
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            length, _ = _HEADER.unpack(header)
            if length > path.stat().st_size:
                break
            data = file.read(length)
            try:
                event = _MESSAGES["Event"].FromString(data)
            except DecodeError:
                break
            yield event
            read += 1
            file.read(_FOOTER)
    if not read:
        raise StoreError(f"{path} is not an event file of TensorBoard: remove it and try again.")
