"""Match the sentences of two texts. Pure functions; the caller provides the vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from app.drift.words import words

Vectors = Mapping[str, npt.NDArray[np.float32]]
MOST_SENTENCES = 60
"""Maximum number of sentences matched per text; the time grows with its cube."""


class Match(NamedTuple):
    """A sentence of each text and their cosine; one is None if the other has no counterpart."""

    first: str | None
    second: str | None
    cosine: float | None


def align(first: Sequence[str], second: Sequence[str], vectors: Vectors | None) -> list[Match]:
    """Match sentences one to one so that the sum of cosines is largest (Hungarian method), in the order of `first`.

    Unmatched sentences stand alone: those of `first` in their place, those of `second` at the end. Pairs with a cosine
    of 0 or less are not matched. `vectors` are unit vectors of all sentences; without them, cosines are of word counts.
    """
    first, second = first[:MOST_SENTENCES], second[:MOST_SENTENCES]
    if not first or not second:
        return [*(Match(one, None, None) for one in first), *(Match(None, one, None) for one in second)]
    cosines = _embedded(first, second, vectors) if vectors is not None else _counted(first, second)
    rows, columns = linear_sum_assignment(np.maximum(cosines, 0), maximize=True)
    partner = {int(i): int(j) for i, j in zip(rows, columns, strict=True) if cosines[i, j] > 0}
    matches = [
        Match(one, second[partner[i]], float(cosines[i, partner[i]])) if i in partner else Match(one, None, None)
        for i, one in enumerate(first)
    ]
    matched = set(partner.values())
    return matches + [Match(None, one, None) for j, one in enumerate(second) if j not in matched]


def _embedded(first: Sequence[str], second: Sequence[str], vectors: Vectors) -> npt.NDArray[np.floating]:
    return np.stack([vectors[one] for one in first]) @ np.stack([vectors[one] for one in second]).T


def _counted(first: Sequence[str], second: Sequence[str]) -> npt.NDArray[np.floating]:
    counts = [Counter(words(sentence)) for sentence in (*first, *second)]
    place = {word: i for i, word in enumerate({word: None for count in counts for word in count})}
    matrix = np.zeros((len(counts), max(1, len(place))))
    for row, count in zip(matrix, counts, strict=True):
        for word, n in count.items():
            row[place[word]] = n
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit = np.divide(matrix, norms, out=np.zeros_like(matrix), where=norms > 0)
    return np.asarray(unit[: len(first)] @ unit[len(first) :].T)
