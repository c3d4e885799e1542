"""Explain why a job failed and what to do. Torch-free: libraries' exceptions are recognised by name and message."""

from __future__ import annotations

import builtins
import errno
import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from store.db.engine import StoreError
from store.db.redaction import redact
from trainer.spec.config import ConfigError

Kind = Literal["out_of_memory", "data", "model", "config", "disk", "dependency", "database", "reward", "bug"]

NO_DISK = 74
"""Exit code of a job whose disk or database failed, so that it may have been unable to report the error."""
_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
_MODEL_SIGNS = ("size mismatch for", "not a valid model identifier", "error(s) in loading state_dict", "can't load the")
_MODEL_PACKAGES = ("huggingface_hub", "safetensors", "safetensors_rust")
_DATA_TYPES = ("UnidentifiedImageError", "DecompressionBombError", "JSONDecodeError", "DatasetGenerationError")
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_DISK_SIGNS = ("no space left", "file too large", "disk is full", "disk i/o error", "readonly database")


class TrainerError(Exception):
    """A known kind of failure. `message` says in one sentence what happened and what to do."""

    def __init__(self, kind: Kind, message: str) -> None:
        self.kind = kind
        self.message = redact(message)
        super().__init__(self.message)


class Stopped(BaseException):
    """Raised to end a job after a stop was requested.

    Like KeyboardInterrupt it is no Exception, so that no `except Exception` on the way catches it.
    """


class _Fault(NamedTuple):
    """An exception that was caught in this process or read from a log."""

    name: str
    names: frozenset[str]
    """Names of its class and, if known, of its base classes."""
    package: str
    text: str
    """Its message."""
    errno: int | None

    @property
    def first(self) -> str:
        """The first line of the message."""
        return (self.text.strip().splitlines() or [""])[0].rstrip(".")[:500]

    @property
    def described(self) -> str:
        return f"{self.name}: {self.first}".removesuffix(": ")

    def says(self, signs: Iterable[str]) -> bool:
        return any(sign in self.text.lower() for sign in signs)


def classify(error: BaseException) -> tuple[Kind, str]:
    """Return kind and explanation of the exception that ended a job. One without a message is judged by its cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TrainerError):
            return cause.kind, cause.message
        if isinstance(cause, ConfigError):
            return "config", str(cause)
        if isinstance(cause, StoreError):
            behind = cause.__cause__
            return ("disk" if behind and _fault_of(behind).says(_DISK_SIGNS) else "database"), str(cause)
        if verdict := _classify(_fault_of(cause)):
            return verdict
        cause = cause.__cause__
    return (
        "bug",
        f"{_fault_of(error).described}. This is a bug in the trainer or in a library; see the traceback in the log.",
    )


def classify_line(line: str) -> tuple[Kind, str] | None:
    """Return kind and explanation of a traceback's last line, such as `torch.OutOfMemoryError: CUDA out of memory`.

    Return None if it is not recognised.
    """
    return _classify(_read(line))


def _classify(fault: _Fault) -> tuple[Kind, str] | None:
    if _is_out_of_memory(fault):
        return "out_of_memory", _MEMORY_ADVICE
    if ("OSError" in fault.names and fault.errno in _DISK_ERRORS) or fault.says(_DISK_SIGNS):
        return "disk", f"Could not write to disk: {fault.first}. Free space or allow writing, then resume the run."
    if fault.names & {"SQLAlchemyError", "DBAPIError"} or fault.package in ("sqlalchemy", "sqlite3"):
        return (
            "database",
            f"The database failed ({fault.described}). Check its disk and connection, then resume the run.",
        )
    if "ImportError" in fault.names:
        missing = re.search(r"(?:module named|from) '([\w.-]+)'", fault.text)
        package = missing.group(1) if missing else "the package"
        return "dependency", f"{fault.described}. Install {package}, then resume the run."
    if _is_about_the_model(fault):
        return "model", f"The model could not be loaded: {fault.first}. Check model.id, model.revision and the network."
    if fault.names & {*_DATA_TYPES, "UnicodeDecodeError", "FileNotFoundError"}:
        return "data", f"The data could not be read: {fault.first}. Check the dataset's files."
    return None


_MEMORY_ADVICE = (
    "Out of memory. Raise optimization.accumulation, turn on optimization.gradient_checkpointing, quantize the model, "
    "or lower max_tokens or the image size."
)


def _is_out_of_memory(fault: _Fault) -> bool:
    return bool(fault.names & {"MemoryError", "OutOfMemoryError"}) or (
        bool(fault.names & {"RuntimeError", "OSError"}) and fault.says(_MEMORY_SIGNS)
    )


def _is_about_the_model(fault: _Fault) -> bool:
    return fault.package in _MODEL_PACKAGES or (
        bool(fault.names & {"OSError", "RuntimeError", "ValueError"}) and fault.says(_MODEL_SIGNS)
    )


def _fault_of(error: BaseException) -> _Fault:
    kind = type(error)
    names = frozenset(above.__name__ for above in kind.__mro__)
    number = error.errno if isinstance(error, OSError) else None
    return _Fault(kind.__name__, names, kind.__module__.partition(".")[0], str(error), number)


def _read(line: str) -> _Fault:
    qualified, _, text = line.partition(": ")
    module, _, name = qualified.strip().rpartition(".")
    builtin = getattr(builtins, name, None)
    names = [above.__name__ for above in builtin.__mro__] if isinstance(builtin, type) else [name]
    number = re.match(r"\[Errno (\d+)\]", text)
    return _Fault(name, frozenset(names), module.partition(".")[0], text, int(number.group(1)) if number else None)
