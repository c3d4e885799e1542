"""Find the images that a training set and a benchmark share, and accuracy without them. Pure functions of arrays.

Two images are the same if their files are, if they have one number in a public collection, or if their perceptual
hashes differ in only a few of 64 bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.db.rows import Pictures, Verdicts
from trainer.spec.statistics import wilson

FILE, NUMBER, LOOKS = 0, 1, 2
"""Kinds of match, the most certain first."""
LIKELY_COPY = 4
"""Bits: resized and recompressed copies differ by at most this many, different photos by more than twice as many."""
AT_ONCE = 4_000_000
"""Pairs of hashes in memory at a time."""
BITS = 64


class Overlap(NamedTuple):
    """For each distinct image of a benchmark, the most similar image of the training set.

    `benchmark` and `training` are indices into the compared Pictures; `kind` is FILE, NUMBER or LOOKS, and `distance`
    the bits by which the hashes differ; all four are by benchmark image.
    """

    benchmark: NDArray[np.int64]
    training: NDArray[np.int64]
    kind: NDArray[np.int8]
    distance: NDArray[np.int64]

    def within(self, most: int) -> NDArray[np.bool_]:
        """Return which images match, including those whose hashes differ by at most `most` bits."""
        return (self.kind < LOOKS) | (self.distance <= most)


class Score(NamedTuple):
    """Right answers of `n`, with their share and its 95 % interval (Wilson); None if n is 0."""

    n: int
    share: float | None
    low: float | None
    high: float | None


def compare(training: Pictures, benchmark: Pictures) -> Overlap:
    """Compare two sets of pictures; the result is empty if either has no images."""
    ours, theirs = _distinct(training.sha256), _distinct(benchmark.sha256)
    if not len(ours) or not len(theirs):
        nothing = np.empty(0, np.int64)
        return Overlap(nothing, nothing, nothing.astype(np.int8), nothing)
    place, distance = nearest(training.phash[ours], benchmark.phash[theirs])
    twin, kind = ours[place], np.full(len(theirs), LOOKS, np.int8)
    for sameness, names in ((NUMBER, "origin"), (FILE, "sha256")):
        known = _places(getattr(training, names), ours)
        for i, name in enumerate(getattr(benchmark, names)[theirs].tolist()):
            if name and name in known:
                twin[i], kind[i] = known[name], sameness
    distance = np.bitwise_count(training.phash[twin] ^ benchmark.phash[theirs]).astype(np.int64)
    return Overlap(theirs, twin, kind, distance)


def _distinct(sha256: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the first index of each distinct image."""
    return np.unique(sha256, return_index=True)[1].astype(np.int64)


def _places(names: NDArray[np.str_], where: NDArray[np.int64]) -> dict[str, int]:
    return dict(zip(names[where].tolist(), where.tolist(), strict=True))


def nearest(training: NDArray[np.uint64], benchmark: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each benchmark hash, the index of the nearest training hash, and the number of differing bits."""
    place, distance = np.empty(len(benchmark), np.int64), np.empty(len(benchmark), np.int64)
    rows = max(1, AT_ONCE // len(training))
    for start in range(0, len(benchmark), rows):
        part = slice(start, start + rows)
        differing = np.bitwise_count(benchmark[part, None] ^ training)
        place[part] = differing.argmin(axis=1)
        distance[part] = differing.min(axis=1)
    return place, distance


def touched(overlap: Overlap, benchmark: Pictures, most: int) -> NDArray[np.int64]:
    """Return ids of the benchmark's examples that show an image of the training set."""
    shared = benchmark.sha256[overlap.benchmark[overlap.within(most)]]
    return np.unique(benchmark.example_id[np.isin(benchmark.sha256, shared)])


def score(correct: NDArray[np.bool_]) -> Score:
    n, right = len(correct), int(correct.sum())
    return Score(n, right / n, *wilson(right, n)) if n else Score(0, None, None, None)


class Scores(NamedTuple):
    """Exact match of one test, split by what is known about its examples' images."""

    everything: Score
    clean: Score
    shared: Score
    unknown: int
    """Examples whose images were never hashed: they are in neither part."""


def scores(verdicts: Verdicts, benchmark: Pictures, ids: NDArray[np.int64]) -> Scores:
    """Return the scores of one test; `ids` are the examples that show an image of the training set."""
    is_shared = np.isin(verdicts.example_id, ids)
    is_known = np.isin(verdicts.example_id, benchmark.example_id)
    return Scores(
        score(verdicts.correct),
        score(verdicts.correct[is_known & ~is_shared]),
        score(verdicts.correct[is_shared]),
        int((~is_known).sum()),
    )
