"""What can go wrong in a job, in words with advice. Torch-free: foreign exceptions are told by name and message."""

from __future__ import annotations

import errno
import sqlite3
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from store.engine import StoreError
from trainer.config import ConfigError

Kind = Literal["out_of_memory", "data", "model", "config", "disk", "dependency", "database", "bug"]

_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
_MODEL_SIGNS = ("size mismatch for", "not a valid model identifier", "error(s) in loading state_dict", "can't load the")
_MODEL_PACKAGES = ("huggingface_hub", "safetensors", "safetensors_rust")
_DATA_TYPES = ("UnidentifiedImageError", "DecompressionBombError", "JSONDecodeError", "DatasetGenerationError")
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


class TrainerError(Exception):
    """A known fault; `message` is one sentence that says what happened and what to do."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Stopped(BaseException):
    """The job ended because somebody asked it to.

    Not an Exception, like KeyboardInterrupt: no `except Exception` on its way may swallow it.
    """


def classify(error: BaseException) -> tuple[Kind, str]:
    """Kind and sentence of whatever ended a job; an exception that says nothing itself is judged by its cause."""
    cause: BaseException | None = error
    while cause is not None:
        if found := _classify(cause):
            return found
        cause = cause.__cause__
    return "bug", f"{_named(error)}. This is a bug in the trainer or a library: see the traceback."


def _classify(error: BaseException) -> tuple[Kind, str] | None:
    if isinstance(error, TrainerError):
        return error.kind, error.message
    if isinstance(error, ConfigError):
        return "config", str(error)
    if isinstance(error, StoreError):
        return "database", str(error)
    if isinstance(error, (SQLAlchemyError, sqlite3.Error)):
        return "database", f"The database failed ({_named(error)}). Check its disk and connection, then resume the run."
    if _is_out_of_memory(error):
        return "out_of_memory", _MEMORY_ADVICE
    if (isinstance(error, OSError) and error.errno in _DISK_ERRORS) or "no space left" in str(error).lower():
        return "disk", f"The disk refused: {_first_line(error)}. Free space or permit writing, then resume the run."
    if isinstance(error, ImportError):
        return "dependency", f"{_named(error)}. Install {error.name or 'the package'} and resume the run."
    if _is_about_the_model(error):
        return "model", f"The model could not be loaded: {_first_line(error)}. Check model.id, revision and network."
    if type(error).__name__ in _DATA_TYPES or isinstance(error, (UnicodeDecodeError, FileNotFoundError)):
        return "data", f"The data could not be read: {_first_line(error)}. Check the dataset's files."
    return None


_MEMORY_ADVICE = (
    "Out of memory. Raise optimization.accumulation, turn on optimization.gradient_checkpointing, quantize the model, "
    "or lower max_tokens or the image size."
)


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, (RuntimeError, OSError)) and any(sign in text for sign in _MEMORY_SIGNS))
    )


def _is_about_the_model(error: BaseException) -> bool:
    text = str(error).lower()
    package = type(error).__module__.partition(".")[0]
    return package in _MODEL_PACKAGES or (
        isinstance(error, (OSError, RuntimeError, ValueError)) and any(sign in text for sign in _MODEL_SIGNS)
    )


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {_first_line(error)}".removesuffix(": ")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")[:500]
