"""Find images shared by a training set and a benchmark, and the accuracy without them. Pure functions of arrays.

Two images match if their files are equal, if they have the same number in a public collection, or if their perceptual
hashes differ in only a few of 64 bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.db.rows import Pictures, Verdicts
from trainer.spec.statistics import wilson

FILE, NUMBER, LOOKS = 0, 1, 2
"""Kinds of matches, most certain first."""
LIKELY_COPY = 4
"""Default maximum of differing bits: resized and recompressed copies differ by at most this many, different photos by
more than twice as many."""
AT_ONCE = 4_000_000
"""Number of hash pairs in memory at a time."""
BITS = 64


class Overlap(NamedTuple):
    """The most similar training image for each distinct benchmark image.

    `benchmark` and `training` are indices into the compared Pictures; `kind` is FILE, NUMBER or LOOKS, and `distance`
    the number of differing bits of the hashes; all four are by benchmark image.
    """

    benchmark: NDArray[np.int64]
    training: NDArray[np.int64]
    kind: NDArray[np.int8]
    distance: NDArray[np.int64]

    def within(self, max_bits: int) -> NDArray[np.bool_]:
        """Return which images match, counting hashes that differ by at most `max_bits` bits as a match."""
        return (self.kind < LOOKS) | (self.distance <= max_bits)


class Score(NamedTuple):
    """Number of right answers out of `n`, and their share with 95 % Wilson interval (None if n is 0)."""

    n: int
    share: float | None
    low: float | None
    high: float | None


def compare(training: Pictures, benchmark: Pictures) -> Overlap:
    """Compare two sets of images; the result is empty if either is empty."""
    training_rows, benchmark_rows = _distinct(training.sha256), _distinct(benchmark.sha256)
    if not len(training_rows) or not len(benchmark_rows):
        nothing = np.empty(0, np.int64)
        return Overlap(nothing, nothing, nothing.astype(np.int8), nothing)
    place, distance = nearest(training.phash[training_rows], benchmark.phash[benchmark_rows])
    twin, kind = training_rows[place], np.full(len(benchmark_rows), LOOKS, np.int8)
    for sameness, names in ((NUMBER, "origin"), (FILE, "sha256")):
        rows_by_name = _places(getattr(training, names), training_rows)
        for i, name in enumerate(getattr(benchmark, names)[benchmark_rows].tolist()):
            if name and name in rows_by_name:
                twin[i], kind[i] = rows_by_name[name], sameness
    distance = np.bitwise_count(training.phash[twin] ^ benchmark.phash[benchmark_rows]).astype(np.int64)
    return Overlap(benchmark_rows, twin, kind, distance)


def _distinct(sha256: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the first index of each distinct image."""
    return np.unique(sha256, return_index=True)[1].astype(np.int64)


def _places(names: NDArray[np.str_], where: NDArray[np.int64]) -> dict[str, int]:
    return dict(zip(names[where].tolist(), where.tolist(), strict=True))


def nearest(training: NDArray[np.uint64], benchmark: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the index of the nearest training hash for each benchmark hash, and the number of differing bits."""
    place, distance = np.empty(len(benchmark), np.int64), np.empty(len(benchmark), np.int64)
    rows = max(1, AT_ONCE // len(training))
    for start in range(0, len(benchmark), rows):
        part = slice(start, start + rows)
        differing = np.bitwise_count(benchmark[part, None] ^ training)
        place[part] = differing.argmin(axis=1)
        distance[part] = differing.min(axis=1)
    return place, distance


def overlapping_examples(overlap: Overlap, benchmark: Pictures, max_bits: int) -> NDArray[np.int64]:
    """Return the ids of the benchmark's examples with an image from the training set."""
    shared = benchmark.sha256[overlap.benchmark[overlap.within(max_bits)]]
    return np.unique(benchmark.example_id[np.isin(benchmark.sha256, shared)])


def score(correct: NDArray[np.bool_]) -> Score:
    n, right = len(correct), int(correct.sum())
    return Score(n, right / n, *wilson(right, n)) if n else Score(0, None, None, None)


class Scores(NamedTuple):
    """Exact match of one test: overall, and by whether its images are in the training set."""

    everything: Score
    clean: Score
    shared: Score
    unknown: int
    """Number of examples whose images were never hashed; they are in neither part."""


def scores(verdicts: Verdicts, benchmark: Pictures, ids: NDArray[np.int64]) -> Scores:
    """Return the scores of one test; `ids` are the examples with an image from the training set."""
    is_shared = np.isin(verdicts.example_id, ids)
    is_known = np.isin(verdicts.example_id, benchmark.example_id)
    return Scores(
        score(verdicts.correct),
        score(verdicts.correct[is_known & ~is_shared]),
        score(verdicts.correct[is_shared]),
        int((~is_known).sum()),
    )
