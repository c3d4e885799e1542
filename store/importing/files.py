"""Files of other tools, read with care: what is damaged becomes a sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from store.connection import StoreError

LONGEST_JSON = 256 * 2**20
_TYPES = descriptor_pb2.FieldDescriptorProto


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises StoreError when the file holds none."""
    try:
        if path.stat().st_size > LONGEST_JSON:
            raise StoreError(f"{path} is larger than {LONGEST_JSON >> 20} MB: this is no log of a trainer.")
        found = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        raise StoreError(f"{path} cannot be read as JSON: remove it and try again.") from None
    if not isinstance(found, dict):
        raise StoreError(f"{path} holds no JSON object: remove it and try again.")
    return found


def as_json(text: str | bytes) -> Any:
    """What JSON says; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def below(path: str, pattern: str) -> Iterator[Path]:
    """`path` itself if it is a file, else the files below it that match, in order."""
    place = Path(path).expanduser().absolute()
    yield from [place] if place.is_file() else sorted(each for each in place.rglob(pattern) if each.is_file())


def message_types(package: str, shapes: dict[str, dict[str, tuple[int, str]]]) -> dict[str, type[Message]]:
    """Protobuf messages by name; a field is a number and a type, `*` before it repeats, a capital names a message.

    Fields that are left out are skipped when a message is parsed.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    for name, fields in shapes.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            label = _TYPES.LABEL_REPEATED if kind.startswith("*") else _TYPES.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind[0].isupper():
                message.field.add(name=field, number=number, label=label, type_name=f".{package}.{kind}", type=11)
            else:
                kind_number = _TYPES.Type.Value(f"TYPE_{kind.upper()}")
                message.field.add(name=field, number=number, label=label, type=kind_number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in shapes}
