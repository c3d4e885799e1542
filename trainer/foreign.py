"""Functions of the user's own, named `FILE.py:function`: imported from exactly the bytes that are kept with the run."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.abc import ExecutionLoader
from pathlib import Path
from typing import Any

from trainer.config import ConfigError


@dataclass(frozen=True)
class Foreign:
    """A function with the source of its file."""

    call: Callable[..., Any]
    source: str
    sha256: str


def load(reference: str, field: str, signature: str) -> Foreign:
    """The function in `FILE.py:function`; `field` and `signature` word the advice. Raises ConfigError."""
    path_text, _, name = reference.rpartition(":")
    path = Path(path_text).expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{field}: cannot read {path} ({error.strerror}). Check the path of {reference}.") from None
    digest = hashlib.sha256(content).hexdigest()
    loader = _HeldSource(path, content)
    spec = importlib.util.spec_from_loader(f"foreign_{digest[:16]}", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        fault = f"{type(error).__name__}: {error}".rstrip(".")
        raise ConfigError(f"{field}: {path} failed to import ({fault}). Correct the file.") from error
    function = getattr(module, name, None)
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
        raise ConfigError(f"{field}: {path} has no plain function {name}{signature}. Define it there.")
    return Foreign(function, loader.get_source(), digest)


class _HeldSource(ExecutionLoader):
    """Imports a file from bytes that were read before: what was hashed is what runs, and no stale cache."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self.content = content

    def get_filename(self, fullname: str = "") -> str:
        return str(self.path)

    def get_source(self, fullname: str = "") -> str:
        return importlib.util.decode_source(self.content)
