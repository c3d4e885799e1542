"""Make untrusted text safe for a terminal or spreadsheet: no control sequences or formulas, and limited length."""

from __future__ import annotations

import re
from typing import Any

LONGEST = 60
_FORMULA = re.compile(r"[=@+\-\uff1d\uff20\uff0b\uff0d]")


def shown(text: Any) -> str:
    """Return the text with U+FFFD in place of cursor movements, colours and direction marks."""
    string = str(text)
    if string.isascii() and string.isprintable():
        return string
    return "".join(each if each.isprintable() or each == "\n" else _replacement(each) for each in string)


def cell(text: Any, most: int = LONGEST) -> str:
    """Return the text as one line of at most `most` characters, for a table's column."""
    line = " ".join(shown(str(text)[: 4 * most]).split())
    return line if len(line) <= most and len(str(text)) <= 4 * most else f"{line[: most - 1]}…"


def unformulaic(text: str) -> str:
    """Return a one-line CSV cell that spreadsheets do not evaluate as a formula, even after a line break or blanks."""
    line = " ".join(shown(text).split())
    return f"'{line}" if _FORMULA.match(line) else line


def _replacement(character: str) -> str:
    return " " if character.isspace() else "\ufffd"
