"""The structure of texts: patterns, repetition, compressibility. Pure functions.

Rules match text patterns and do not judge meaning; the definition of each is shown beside its value.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from app.drift.words import phrases, words

REPEATED = 4
"""Number of words in a repeated phrase."""
_FIRST_NUMBER = re.compile(r"(?<!\S)1\.(?!\S)")
_FIRST_SENTENCE = re.compile(r"[^.!?\n]*")
_CHECKS = re.compile(r"\b(?:(?:double|re)?-?check\w*|verif\w+|recount\w*|count(?:ing)? again|make sure|confirm\w*)\b")
_HEDGES = re.compile(
    r"\b(?:maybe|perhaps|probably|possibly|might|seems?|appears?|likely|roughly|approximately|unclear)\b"
    r"|\bi think\b|\bnot sure\b"
)
_FUNCTION_WORDS = frozenset(
    words(
        "a an and any are at be can do does how image in is it many much number of on photo picture see the there this "
        "to total what you"
    )
)


class Rule(NamedTuple):
    """A structural pattern; `holds` takes a text and its question."""

    name: str
    definition: str
    holds: Callable[[str, str], bool]


def _restates(text: str, question: str) -> bool:
    question_words = set(words(question)) - _FUNCTION_WORDS
    opening = _FIRST_SENTENCE.match(text.strip())
    return bool(question_words) and opening is not None and question_words <= set(words(opening.group()))


RULES = (
    Rule("Numbered list", "contains a separate “1.”", lambda text, _: bool(_FIRST_NUMBER.search(text))),
    Rule(
        "Prose",
        "at least five words, and no separate “1.”",
        lambda text, _: len(words(text)) >= 5 and not _FIRST_NUMBER.search(text),
    ),
    Rule("Restated question", "the first sentence contains every noun and adjective of the question", _restates),
    Rule(
        "Verification",
        "contains check, verify, recount, count again, make sure or confirm, in any inflection",
        lambda text, _: bool(_CHECKS.search(text.casefold())),
    ),
    Rule(
        "Hedging",
        "contains maybe, perhaps, probably, possibly, might, seem, appear, likely, roughly, approximately, I think, "
        "not sure or unclear",
        lambda text, _: bool(_HEDGES.search(text.casefold())),
    ),
)


class Form(NamedTuple):
    """Statistics of a group of texts."""

    structure: tuple[float, ...]
    """Share of texts that match each of RULES."""
    words: float
    """Mean number of words in a text."""
    distinct: float
    """Number of distinct texts, divided by that of all texts."""
    repeated: float
    """Mean share of a text's phrases of REPEATED words that occurred earlier in it, over texts with such phrases."""
    compression: float
    """Bytes of all texts, one per line, divided by their compressed size (zlib)."""
    frequent: tuple[tuple[str, float], ...]
    """The most widespread phrases of REPEATED words, with the share of texts that contain them."""


def form(texts: Sequence[str], questions: Sequence[str]) -> Form:
    """Return the statistics of at least one text; `questions` belong to the texts, in order."""
    n = len(texts)
    pairs = list(zip(texts, questions, strict=True))
    phrase_lists = [phrases(text, REPEATED) for text in texts]
    repeated = [1 - len(set(each)) / len(each) for each in phrase_lists if each]
    raw = "\n".join(texts).encode("utf-8", "replace")
    frequent = Counter(phrase for each in phrase_lists for phrase in set(each)).most_common(5)
    return Form(
        tuple(sum(rule.holds(*pair) for pair in pairs) / n for rule in RULES),
        float(np.mean([len(words(text)) for text in texts])),
        len(set(texts)) / n,
        float(np.mean(repeated)) if repeated else 0.0,
        len(raw) / len(zlib.compress(raw, 9)) if raw else 1.0,
        tuple((phrase, count / n) for phrase, count in frequent),
    )
