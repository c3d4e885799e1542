"""Images that two datasets share: against brute force, by what they are recognised, and accuracy without them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.datasets import overlap
from store.db.rows import Pictures, Verdicts

HASHES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=30)


def pictures(*rows: tuple[int, str, int, str]) -> Pictures:
    """Rows of example id, file, hash and origin, in the order of files as the store gives them."""
    example_id, sha256, phash, origin = zip(*sorted(rows, key=lambda row: row[1]), strict=True) if rows else ([],) * 4
    return Pictures(
        np.array(example_id, np.int64),
        np.array(sha256, np.str_),
        np.array(phash, np.uint64),
        np.array(origin, np.str_),
    )


def pairs(training: Pictures, benchmark: Pictures, found: overlap.Overlap) -> dict[str, tuple[str, int, int]]:
    """Benchmark file to training file, kind and distance."""
    return {
        str(benchmark.sha256[b]): (str(training.sha256[t]), int(kind), int(distance))
        for b, t, kind, distance in zip(*found, strict=True)
    }


@given(HASHES, HASHES, st.sampled_from([1, 50, overlap.AT_ONCE]))
def test_the_nearest_hash_is_that_of_brute_force(training: list[int], benchmark: list[int], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "AT_ONCE", at_once)
        place, distance = overlap.nearest(np.array(training, np.uint64), np.array(benchmark, np.uint64))
    for i, bits in enumerate(benchmark):
        assert distance[i] == min((bits ^ other).bit_count() for other in training)
        assert (training[place[i]] ^ bits).bit_count() == distance[i]


def test_the_surest_sign_of_sameness_is_told() -> None:
    training = pictures((1, "a", 0b0000, ""), (2, "b", 0b1111_1111, "coco:9"), (3, "c", 0b0001, ""))
    benchmark = pictures(
        (10, "a", 0b0000, ""), (11, "x", 0b0000, "coco:9"), (12, "y", 0b0011, ""), (12, "z", 2**64 - 1, "")
    )
    found = overlap.compare(training, benchmark)
    told = pairs(training, benchmark, found)
    assert told["a"] == ("a", overlap.FILE, 0)
    assert told["x"] == ("b", overlap.NUMBER, 8)
    assert told["y"] == ("c", overlap.LOOKS, 1)
    assert told["z"] == ("b", overlap.LOOKS, 56)
    assert found.within(0).tolist() == [True, True, False, False]
    assert found.within(1).tolist() == [True, True, True, False]
    assert overlap.overlapping_examples(found, benchmark, 0).tolist() == [10, 11]
    assert overlap.overlapping_examples(found, benchmark, 1).tolist() == [10, 11, 12]


def test_an_unknown_number_is_no_number() -> None:
    training, benchmark = pictures((1, "a", 0, "")), pictures((2, "b", 2**64 - 1, ""))
    assert overlap.compare(training, benchmark).kind.tolist() == [overlap.LOOKS]


@pytest.mark.parametrize("sides", [((), ((1, "a", 0, ""),)), (((1, "a", 0, ""),), ()), ((), ())])
def test_nothing_overlaps_with_nothing(sides: tuple[Any, Any]) -> None:
    training, benchmark = (pictures(*side) for side in sides)
    found = overlap.compare(training, benchmark)
    assert len(found.within(64)) == 0
    assert overlap.overlapping_examples(found, benchmark, 64).tolist() == []


def test_an_image_of_many_questions_is_one_image() -> None:
    benchmark = pictures(*((i, "a", 0, "") for i in range(5)))
    found = overlap.compare(pictures((9, "a", 0, ""), (8, "a", 0, "")), benchmark)
    assert len(found.benchmark) == 1
    assert overlap.overlapping_examples(found, benchmark, 0).tolist() == [0, 1, 2, 3, 4]


def test_accuracy_falls_apart_into_shared_and_other_examples() -> None:
    ids = np.arange(10)
    verdicts = Verdicts(1, 1, "run", "uid", 5, ids, ids < 6)
    hashed = pictures(*((i, str(i), 0, "") for i in range(9)))
    everything, clean, shared, unknown = overlap.scores(verdicts, hashed, np.array([0, 1, 2, 99]))
    assert (everything.n, everything.share) == (10, 0.6)
    assert (clean.n, clean.share) == (6, 0.5)
    assert (shared.n, shared.share) == (3, 1.0)
    assert unknown == 1
    # Wilson's interval of 6 of 10, by hand: (0.6 + z²/20 ± z √(0.6 · 0.4 / 10 + z²/400)) / (1 + z²/10)
    assert (everything.low, everything.high) == (pytest.approx(0.3127, abs=1e-4), pytest.approx(0.8318, abs=1e-4))
    assert overlap.scores(verdicts, hashed, ids).clean == (0, None, None, None)


def test_large_sets_are_compared_in_seconds() -> None:
    rng = np.random.default_rng(0)
    training, benchmark = (rng.integers(0, 2**64, n, np.uint64) for n in (20_000, 5_000))
    start = time.process_time()
    _, distance = overlap.nearest(training, benchmark)
    assert time.process_time() - start < 10
    assert distance.min() > overlap.LIKELY_COPY
