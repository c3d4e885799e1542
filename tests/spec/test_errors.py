"""Whatever ends a job gets a kind and a sentence with advice."""

from __future__ import annotations

import errno
import json
import sqlite3

import pytest
from sqlalchemy.exc import OperationalError

from store.db.engine import StoreError
from trainer.spec.config import ConfigError
from trainer.spec.errors import Stopped, TrainerError, classify, classify_line


def foreign(name: str, module: str, *bases: type[BaseException]) -> type[BaseException]:
    """An exception class of a library that is not imported here."""
    return type(name, bases or (Exception,), {"__module__": module})


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (TrainerError("data", "No images. Bring some."), "data", "No images. Bring some."),
        (ConfigError("seed must be at least 0."), "config", "seed must be at least 0."),
        (StoreError("The disk is full."), "database", "The disk is full."),
        (OperationalError("x", {}, sqlite3.OperationalError("locked")), "database", "Check its disk and connection"),
        (sqlite3.DatabaseError("malformed"), "database", "malformed"),
        (MemoryError(), "out_of_memory", "optimization.accumulation"),
        (
            foreign("OutOfMemoryError", "torch", RuntimeError)("CUDA out of memory. Tried"),
            "out_of_memory",
            "max_tokens",
        ),
        (RuntimeError("CUDA error: out of memory"), "out_of_memory", "Out of memory."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory", "Out of memory."),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), "out_of_memory", "Out of memory."),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory", "Out of memory."),
        (OSError(errno.EFBIG, "File too large", "x.bin"), "disk", "File too large"),
        (ImportError("cannot import name 'x' from 'trl' (/somewhere)"), "dependency", "Install trl"),
        (OSError(errno.ENOSPC, "No space left on device", "x.bin"), "disk", "No space left on device: 'x.bin'. Free"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "disk", "allow writing"),
        (foreign("SafetensorError", "safetensors_rust")("I/O: No space left on device"), "disk", "Free space"),
        (
            ModuleNotFoundError("No module named 'bitsandbytes'", name="bitsandbytes"),
            "dependency",
            "Install bitsandbytes",
        ),
        (ImportError("something"), "dependency", "Install the package"),
        (OSError("x is not a local folder and is not a valid model identifier"), "model", "Check model.id"),
        (
            RuntimeError("Error(s) in loading state_dict for X:\n\tsize mismatch for y"),
            "model",
            "loading state_dict for X:.",
        ),
        (
            foreign("GatedRepoError", "huggingface_hub.errors")("401: ask for access"),
            "model",
            "401: ask for access. Check",
        ),
        (foreign("UnidentifiedImageError", "PIL", OSError)("cannot identify image file"), "data", "cannot identify"),
        (json.JSONDecodeError("Expecting value", "", 0), "data", "Check the dataset's files."),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.png"), "data", "a.png"),
        (ZeroDivisionError("oh no\nmore"), "bug", "ZeroDivisionError: oh no. This is a bug"),
        (KeyError(), "bug", "KeyError. This is a bug"),
    ],
)
def test_the_kind_and_the_advice(error: BaseException, kind: str, words: str) -> None:
    found, sentence = classify(error)
    assert found == kind and words in sentence
    assert "\n" not in sentence


def test_a_database_on_a_full_disk_is_about_the_disk() -> None:
    error = StoreError("The disk of x.db is full. Free some space.")
    error.__cause__ = sqlite3.OperationalError("database or disk is full")
    assert classify(error) == ("disk", "The disk of x.db is full. Free some space.")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB", "out_of_memory"),
        ("MemoryError", "out_of_memory"),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory", "out_of_memory"),
        ("OSError: [Errno 28] No space left on device: 'x'", "disk"),
        ("sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) no such table", "database"),
        ("ModuleNotFoundError: No module named 'bitsandbytes'", "dependency"),
        ("PIL.UnidentifiedImageError: cannot identify image file", "data"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'a.png'", "data"),
        ("huggingface_hub.errors.GatedRepoError: 401", "model"),
        ("ZeroDivisionError: division by zero", None),
        ("", None),
    ],
)
def test_the_last_line_of_a_log_tells_the_kind_too(line: str, kind: str | None) -> None:
    found = classify_line(line)
    assert (found and found[0]) == kind


def test_an_exception_that_says_nothing_is_judged_by_its_cause() -> None:
    wrapped = RuntimeError("step 3 failed")
    wrapped.__cause__ = ValueError("inner")
    wrapped.__cause__.__cause__ = MemoryError()
    assert classify(wrapped)[0] == "out_of_memory"
    wrapped.__cause__.__cause__ = None
    assert classify(wrapped) == (
        "bug",
        "RuntimeError: step 3 failed. This is a bug in the trainer or in a library; see the traceback in the log.",
    )


def test_nobody_swallows_a_stop() -> None:
    assert not issubclass(Stopped, Exception)
