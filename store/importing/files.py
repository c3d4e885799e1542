"""Read files of other tools, and report damaged ones in a sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from store.db.connection import StoreError

LONGEST_JSON = 256 * 2**20
POINTER = b"version https://git-lfs.github.com/spec/"
"""The beginning of the pointer that replaces a file that Git LFS has not fetched."""
PARENTS = 3
"""Most parent folders that are added to distinguish a run from others of the same name."""
_TYPES = descriptor_pb2.FieldDescriptorProto
T = TypeVar("T")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises StoreError if the file does not contain one."""
    try:
        if path.stat().st_size > LONGEST_JSON:
            raise StoreError(f"{path} is larger than {LONGEST_JSON >> 20} MB, too large for the log of a trainer.")
        content = json.loads(path.read_text(encoding=encoding_of(path), errors="replace"))
    except (OSError, ValueError, RecursionError):
        raise StoreError(f"{path} is not valid JSON.") from None
    if not isinstance(content, dict):
        raise StoreError(f"{path} does not contain a JSON object.")
    return content


def encoding_of(path: Path) -> str:
    """Return the encoding of a JSON file, which may have a byte order mark: UTF-8, UTF-16 or UTF-32."""
    with path.open("rb") as file:
        return json.detect_encoding(file.read(4))


def as_json(text: str | bytes) -> Any:
    """Parse JSON; return None if it is invalid."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def below(path: str, pattern: str) -> list[Path]:
    """Return `path` if it is a file, or else the matching files in it, sorted. Raises StoreError if it is missing."""
    place = Path(path).expanduser().absolute()
    if not place.exists():
        raise StoreError(f"{path} does not exist. Name an existing folder or file.")
    return [place] if place.is_file() else sorted(each for each in place.rglob(pattern) if each.is_file())


def read_each(paths: Iterable[Path], read: Callable[[Path], T]) -> tuple[list[T], list[str]]:
    """Return the results of `read` for all files, and a sentence for each file that cannot be read."""
    results, problems = [], []
    for path in paths:
        try:
            if _is_pointer(path):
                raise StoreError(f"{path} is a Git LFS pointer. Run `git lfs pull`.")
            results.append(read(path))
        except StoreError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}.")
    return results, problems


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def places(folder: Path, root: Path) -> tuple[str, ...]:
    """Return names for a folder's content: its path relative to `root` or its name, then with more and more parents."""
    parts = [part for part in folder.parts if part != folder.anchor]
    least = max(1, len(folder.relative_to(root).parts)) if folder.is_relative_to(root) else 1
    return tuple("/".join(parts[-n:]) for n in range(least, min(least + PARENTS, len(parts)) + 1)) or (str(folder),)


def message_types(package: str, shapes: dict[str, dict[str, tuple[int, str]]]) -> dict[str, type[Message]]:
    """Build protobuf messages by name. A field has a number and a type; `*` before the type means repeated, and a
    capital letter begins the name of a message.

    Other fields are skipped when a message is parsed.
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
