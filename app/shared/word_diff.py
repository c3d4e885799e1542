"""Word-level difference of two texts, as inert HTML."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from app.shared.trace_text import highlighted

MOST_WORDS = 800
"""Maximum number of words compared; the time grows with its square."""
_PIECE = re.compile(r"\s+|[^\s<]+|<[^\s<>]*>?")
STYLE = (
    "<style>.wd{font-size:.875rem;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.6}"
    ".wd ins{background:rgba(0,158,115,.22);text-decoration:none;border-radius:3px}"
    ".wd del{background:rgba(213,94,0,.18);opacity:.8;border-radius:3px}</style>"
)


def word_diff(before: str | None, after: str) -> str:
    """Return `after` with new words marked and removed words of `before` struck out.

    Whitespace is shown but not compared. Without `before` nothing is marked; words beyond MOST_WORDS are left out.
    """
    new = _pieces(after)
    if before is None:
        return f'<div class="wd">{highlighted("".join(new))}</div>'
    old = _pieces(before)
    same = difflib.SequenceMatcher(a=old, b=new, autojunk=False)
    parts = []
    for kind, start, end, low, high in same.get_opcodes():
        if kind in ("delete", "replace"):
            parts.append(_tag("del", old[start:end]))
        if kind == "equal":
            parts.append(highlighted("".join(new[low:high])))
        elif high > low:
            parts.append(_tag("ins", new[low:high]))
    return f'<div class="wd">{"".join(parts)}</div>'


def _pieces(text: str) -> list[str]:
    pieces = _PIECE.findall(text)
    return pieces if len(pieces) <= MOST_WORDS else [*pieces[:MOST_WORDS], "…"]


def _tag(tag: str, words: Sequence[str]) -> str:
    return f"<{tag}>{highlighted(''.join(words))}</{tag}>"
