"""Make foreign text safe for a terminal or spreadsheet: nothing they would obey, nothing endless."""

from __future__ import annotations

import re
from typing import Any

LONGEST = 60
_FORMULA = re.compile(r"[=@+\-\uff1d\uff20\uff0b\uff0d]")


def shown(text: Any) -> str:
    """Return the text with U+FFFD in place of cursor movements, colours and marks of writing direction."""
    known = str(text)
    if known.isascii() and known.isprintable():
        return known
    return "".join(each if each.isprintable() or each == "\n" else _instead(each) for each in known)


def cell(text: Any, most: int = LONGEST) -> str:
    """Return the text in one line of at most `most` characters, for a column of a table."""
    line = " ".join(shown(str(text)[: 4 * most]).split())
    return line if len(line) <= most and len(str(text)) <= 4 * most else f"{line[: most - 1]}…"


def unformulaic(text: str) -> str:
    """Return a one-line cell for CSV that spreadsheets do not run as a formula, even after a break or blanks."""
    line = " ".join(shown(text).split())
    return f"'{line}" if _FORMULA.match(line) else line


def _instead(character: str) -> str:
    return " " if character.isspace() else "\ufffd"
