"""Images that a training set and a benchmark share, and accuracy without them. Pure functions of arrays.

Two images are the same when their files are, when a public collection has them under one number, or when few of the 64
bits of their perceptual hashes differ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.db.rows import Pictures, Verdicts
from trainer.spec.statistics import wilson

FILE, NUMBER, LOOKS = 0, 1, 2
"""Kinds of sameness, the surest first."""
LIKELY_COPY = 4
"""Bits. Smaller and recompressed copies differ by at most so many, different photos by more than twice as many."""
AT_ONCE = 4_000_000
"""Pairs of hashes that are in memory at a time."""
BITS = 64


class Overlap(NamedTuple):
    """For each distinct image of a benchmark the image of the training set that is most like it.

    `benchmark` and `training` are places in the Pictures that were compared; `kind` is FILE, NUMBER or LOOKS, and
    `distance` the bits by which the hashes differ; all four are by benchmark image.
    """

    benchmark: NDArray[np.int64]
    training: NDArray[np.int64]
    kind: NDArray[np.int8]
    distance: NDArray[np.int64]

    def within(self, most: int) -> NDArray[np.bool_]:
        """Which images are the same, hashes that differ by at most `most` bits counting as such."""
        return (self.kind < LOOKS) | (self.distance <= most)


class Score(NamedTuple):
    """Right answers of `n` with the share and its 95 % interval (Wilson); None where n is 0."""

    n: int
    share: float | None
    low: float | None
    high: float | None


def compare(training: Pictures, benchmark: Pictures) -> Overlap:
    """Empty where either side has no images."""
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
    """The first place of each image."""
    return np.unique(sha256, return_index=True)[1].astype(np.int64)


def _places(names: NDArray[np.str_], where: NDArray[np.int64]) -> dict[str, int]:
    return dict(zip(names[where].tolist(), where.tolist(), strict=True))


def nearest(training: NDArray[np.uint64], benchmark: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each hash of the benchmark the place of the training hash with the fewest other bits, and their number."""
    place, distance = np.empty(len(benchmark), np.int64), np.empty(len(benchmark), np.int64)
    rows = max(1, AT_ONCE // len(training))
    for start in range(0, len(benchmark), rows):
        part = slice(start, start + rows)
        differing = np.bitwise_count(benchmark[part, None] ^ training)
        place[part] = differing.argmin(axis=1)
        distance[part] = differing.min(axis=1)
    return place, distance


def touched(overlap: Overlap, benchmark: Pictures, most: int) -> NDArray[np.int64]:
    """Ids of the benchmark's examples that show an image of the training set."""
    shared = benchmark.sha256[overlap.benchmark[overlap.within(most)]]
    return np.unique(benchmark.example_id[np.isin(benchmark.sha256, shared)])


def score(correct: NDArray[np.bool_]) -> Score:
    n, right = len(correct), int(correct.sum())
    return Score(n, right / n, *wilson(right, n)) if n else Score(0, None, None, None)


class Scores(NamedTuple):
    """Exact match of one test by what is known of its examples' images."""

    everything: Score
    clean: Score
    shared: Score
    unknown: int
    """Examples whose images were never hashed: they are in neither part."""


def scores(verdicts: Verdicts, benchmark: Pictures, ids: NDArray[np.int64]) -> Scores:
    """`ids` are the examples that show an image of the training set."""
    is_shared = np.isin(verdicts.example_id, ids)
    is_known = np.isin(verdicts.example_id, benchmark.example_id)
    return Scores(
        score(verdicts.correct),
        score(verdicts.correct[is_known & ~is_shared]),
        score(verdicts.correct[is_shared]),
        int((~is_known).sum()),
    )
