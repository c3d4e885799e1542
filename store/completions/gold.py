"""Parse gold answers: the count in an annotation, in any format that datasets use."""

from __future__ import annotations

import re
from typing import Any

from store.trace import BOX, parse, read_count, unemphasized

_WHOLE = re.compile(r"([0-9]{1,9})[.]0+")
_LAST_LINE = re.compile(r"####\s*([0-9]{1,3}(?:,[0-9]{3}){1,2}|[0-9]{1,9})\s*[.]?\s*\Z")
"""The end of GSM8K's solutions, where commas separate thousands."""


def count(gold: Any) -> int | None:
    """Return a gold answer as a count of at most nine digits, from a number, a word, a tag or a box; otherwise None."""
    if isinstance(gold, list) and len(gold) == 1:
        gold = gold[0]
    if isinstance(gold, bool):
        return None
    if isinstance(gold, float) and gold.is_integer():
        gold = int(gold)
    text = unemphasized(str(gold).strip()) if isinstance(gold, int | str) else ""
    if whole := _WHOLE.fullmatch(text):
        return int(whole[1])
    number = read_count(text)
    return marked_count(text) if number is None else number


def marked_count(text: str) -> int | None:
    """Return the count marked as the answer of a solution, by an answer tag, a box or `####` in the last line."""
    if "<answer>" in text:
        return parse(text, "direct").answer
    if BOX in text:
        return parse(text, "boxed").answer
    last = _LAST_LINE.search(text[-100:])
    return int(last[1].replace(",", "")) if last else None
