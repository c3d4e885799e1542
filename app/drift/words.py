"""Phrases, openings and closings that one group of texts uses more often than another. Pure functions.

A word is a sequence of word characters in lower case, including numbers; a phrase is one to three consecutive words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

PRIOR = 500.0
"""Weight of the prior, as a number of phrases."""
LONGEST_WORD = 40
MOST_WORDS = 2000
"""Maximum number of words read per text."""
_WORD = re.compile(r"\w+")


class Phrase(NamedTuple):
    """A phrase with the share of each side's texts that contain it; z > 0 is typical of the first side."""

    text: str
    z: float
    first: float
    second: float


def words(text: str) -> list[str]:
    """Return the words of a text, except those longer than LONGEST_WORD characters."""
    return [word for word in _WORD.findall(text.casefold()) if len(word) <= LONGEST_WORD][:MOST_WORDS]


def phrases(text: str, n: int) -> list[str]:
    """Return all sequences of n words, joined by spaces."""
    text_words = words(text)
    return [" ".join(text_words[i : i + n]) for i in range(len(text_words) - n + 1)]


def log_odds(first: Mapping[str, int], second: Mapping[str, int], prior: float = PRIOR) -> dict[str, float]:
    """Return the z-score of the log-odds ratio of every phrase, from its counts on both sides.

    Monroe, Colaresi and Quinn 2008, "Fightin' Words", Political Analysis 16(4), with an informative Dirichlet prior:
    the pooled frequencies of both sides, weighted like `prior` phrases. Positive if the first side uses it more.
    """
    vocabulary = sorted({*first, *second})
    if not vocabulary:
        return {}
    counts = np.array([[side.get(phrase, 0) for phrase in vocabulary] for side in (first, second)], dtype=float)
    alpha = prior * counts.sum(axis=0) / counts.sum()
    smoothed = counts + alpha
    rest = smoothed.sum(axis=1, keepdims=True) - smoothed
    # With a single phrase there are no other phrases, and so no odds.
    ratio = np.log(smoothed / rest) if len(vocabulary) > 1 else np.zeros_like(smoothed)
    z = (ratio[0] - ratio[1]) / np.sqrt((1 / smoothed).sum(axis=0))
    return dict(zip(vocabulary, z.tolist(), strict=True))


def distinctive(first: Sequence[str], second: Sequence[str], n: int) -> list[Phrase]:
    """Return every phrase of n words in two groups of texts, most distinctive of the first group first."""
    sides = [[phrases(text, n) for text in texts] for texts in (first, second)]
    counts = [Counter(phrase for text_phrases in side for phrase in text_phrases) for side in sides]
    z = log_odds(counts[0], counts[1])
    holding = [Counter(phrase for text_phrases in side for phrase in set(text_phrases)) for side in sides]
    scored = [
        Phrase(text, score, *(holds[text] / max(1, len(side)) for holds, side in zip(holding, sides, strict=True)))
        for text, score in z.items()
    ]
    return sorted(scored, key=lambda one: (-one.z, one.text))


def holds(text: str, phrase: str) -> bool:
    """Return whether a text contains the words of a phrase consecutively."""
    return f" {' '.join(words(phrase))} " in f" {' '.join(words(text))} "


def ends(texts: Sequence[str], n: int = 3, *, last: bool = False) -> list[tuple[str, float]]:
    """Return the most frequent openings (or, with `last`, closings) of n words, with their shares of texts."""
    counts = Counter(" ".join(words(text)[-n:] if last else words(text)[:n]) for text in texts)
    return [(text, count / len(texts)) for text, count in counts.most_common(5)]
