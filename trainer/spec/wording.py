"""Extract the texts on which style is measured: the wording of a trace, and its sentences.

White space is Python's `\\s`; digits are ASCII.
"""

from __future__ import annotations

import re

NULL = "NULL"
"""Text that replaces a malformed trace in comparisons with a reference (the original project's rule)."""
_TAG = re.compile("</?(?:think|answer)>")
_MARKER = re.compile(r"(?<!\S)(0|[1-9][0-9]*)\.(?= )")
_END = re.compile(r"(?<=[.!?]) ")


def style_text(text: str, think: tuple[int, int] | None) -> str:
    """Return the think body at the span `think`; without a span, the whole text without tags; NULL for blank text.

    Two answers are compared by this text, because malformed traces have a style, too. For comparisons with a reference,
    see `trainer.spec.similarity.compared_text`.
    """
    body = text[slice(*think)] if think else _TAG.sub(" ", text)
    return body.strip() or NULL


def sentences(text: str) -> list[str]:
    """Return the non-blank sentences of a text, with white space collapsed.

    A sentence ends with its line, after `.`, `!` or `?` before white space, and before the marker of the next item of a
    numbered list, as `store.trace` counts them: `1.`, then `2.`. A marker stays with its item.
    """
    parts: list[str] = []
    expected = 1
    for line in text.splitlines():
        start, line = 0, " ".join(line.split())
        for marker in _MARKER.finditer(line):
            if marker[1] == str(expected):
                parts += _split(line[start : marker.start()])
                start, expected = marker.start(), expected + 1
        parts += _split(line[start:])
    return parts


def _split(item: str) -> list[str]:
    """Return the sentences of an item; its own marker does not end a sentence."""
    marker = _MARKER.match(item)
    body = marker.end() + 1 if marker else 0
    first, *others = _END.split(item[body:].rstrip())
    return [part for part in (item[:body] + first, *others) if part]
