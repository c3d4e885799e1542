"""The end of a log file as plain text."""

from __future__ import annotations

import os
import re
from pathlib import Path

from store.db.redaction import redact

LIMIT = 200_000
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def tail(path: Path, limit: int = LIMIT) -> str | None:
    """Return the last `limit` bytes, if possible from the start of a line, without colours; None without a file."""
    if not os.path.isfile(path):
        return None
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - limit))
        content = file.read()
    if size > limit:
        cut, _, whole = content.partition(b"\n")
        content = (
            whole if whole.strip() else b"(\xe2\x80\xa6)" + cut
        )  # a single line without an end, or all but one line
    return redact(terminal_text(content.decode("utf-8", errors="replace")))


def terminal_text(text: str) -> str:
    """Return text as a terminal would show it, without colours: only the last state of an overwritten line."""
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(_CONTROLS.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in lines)
