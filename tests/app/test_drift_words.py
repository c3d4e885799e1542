"""Words, phrases, form and sentences of texts, against computations of their own."""

from __future__ import annotations

import itertools
import math
import random
import zlib
from collections import Counter

import numpy as np
import pytest

from app.drift import sentences, structure, words
from app.drift.structure import RULES
from tests.pages.test_trace_view import HOSTILE

PROSE = "Let me count the red circles in the picture. I see one at the top. Let me double-check: there is probably one."
LIST = "1. red circle top left 2. red circle middle center so 2"
QUESTION = "How many red circles are there?"


def test_log_odds_of_a_case_worked_by_hand() -> None:
    """Prior: a 20, b 80. Odds of a: 50 to 150 and 30 to 170, variance 1/50 + 1/30; of b: 1/150 + 1/170."""
    z = words.log_odds({"a": 30, "b": 70}, {"a": 10, "b": 90}, prior=100)
    assert z["a"] == pytest.approx(2.754, abs=0.001)
    assert z["b"] == pytest.approx(-5.678, abs=0.001)


def test_log_odds_against_the_formula_word_by_word() -> None:
    rng = random.Random(0)
    first, second = (Counter(rng.choices("abcdefgh", weights=rng.sample(range(1, 9), 8), k=400)) for _ in range(2))
    del first["c"]
    z = words.log_odds(first, second)
    n_i, n_j, a0 = sum(first.values()), sum(second.values()), words.PRIOR
    for word in z:
        alpha = a0 * (first[word] + second[word]) / (n_i + n_j)
        omega_i = (first[word] + alpha) / (n_i + a0 - first[word] - alpha)
        omega_j = (second[word] + alpha) / (n_j + a0 - second[word] - alpha)
        variance = 1 / (first[word] + alpha) + 1 / (second[word] + alpha)
        assert z[word] == pytest.approx((math.log(omega_i) - math.log(omega_j)) / math.sqrt(variance))
    assert z["c"] < 0


@pytest.mark.parametrize(("first", "second"), [({}, {}), ({"a": 3}, {}), ({"a": 3}, {"a": 9})])
def test_log_odds_of_next_to_nothing(first: dict[str, int], second: dict[str, int]) -> None:
    assert all(math.isfinite(z) for z in words.log_odds(first, second).values())


def test_distinctive_phrases_come_with_their_shares_of_texts() -> None:
    found = words.distinctive([LIST, LIST, PROSE], [PROSE, PROSE], 2)
    by_text = {one.text: one for one in found}
    assert by_text["red circle"].first == pytest.approx(2 / 3) and by_text["red circle"].second == 0
    assert by_text["let me"].z < 0 < by_text["red circle"].z
    assert found == sorted(found, key=lambda one: -one.z)


def test_a_phrase_is_found_as_words_in_a_row() -> None:
    assert words.holds("So, RED  circle.", "red circle")
    assert not words.holds("red circles", "red circle")
    assert words.phrases("a b c", 3) == ["a b c"] and words.phrases("a b", 3) == []


def test_openings_and_closings() -> None:
    assert words.ends(["I look for it", "I look for them", "Two"]) == [("i look for", 2 / 3), ("two", 1 / 3)]
    assert words.ends(["that makes two in all", "so 2"], last=True) == [("two in all", 0.5), ("so 2", 0.5)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PROSE, {"Prose", "Restated question", "Verification", "Hedging"}),
        (LIST, {"Numbered list"}),
        ("There are 1.5 red things, or none", {"Prose"}),
        ("I look closely. There are red circles here.", {"Prose"}),
        ("recounting the red circles I must be unlikely wrong", {"Prose", "Restated question", "Verification"}),
        ("none so 0", set()),
        ("", set()),
    ],
)
def test_the_rules_of_structure(text: str, expected: set[str]) -> None:
    assert {rule.name for rule in RULES if rule.holds(text, QUESTION)} == expected


def test_the_form_of_texts() -> None:
    texts = [LIST, LIST, "a b c d a b c d"]
    found = structure.form(texts, [QUESTION] * 3)
    assert found.structure[0] == pytest.approx(2 / 3)
    assert found.distinct == pytest.approx(2 / 3)
    assert found.words == pytest.approx((12 + 12 + 8) / 3)
    assert found.repeated == pytest.approx((0 + 0 + 1 / 5) / 3)
    raw = "\n".join(texts).encode()
    assert found.compression == pytest.approx(len(raw) / len(zlib.compress(raw, 9)))
    assert found.frequent[0][1] == pytest.approx(2 / 3)


@pytest.mark.parametrize("text", [*HOSTILE, "x" * 100_000, "a " * 50_000, "1. " * 30_000])
def test_hostile_texts_are_counted_like_others(text: str) -> None:
    structure.form([text, PROSE], [text, QUESTION])
    words.distinctive([text], [PROSE], 3)


def test_alignment_is_the_best_of_all_pairings() -> None:
    rng = np.random.default_rng(0)
    for n, m in ((3, 3), (2, 4), (5, 3)):
        names = [f"f{i}" for i in range(n)], [f"s{j}" for j in range(m)]
        points = rng.normal(size=(n + m, 3))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        vectors = dict(zip([*names[0], *names[1]], points.astype(np.float32), strict=True))
        cosines = np.maximum(points[:n] @ points[n:].T, 0)
        wide = cosines if n <= m else cosines.T
        pairings = itertools.permutations(range(max(n, m)), min(n, m))
        best = max(sum(wide[i, j] for i, j in enumerate(picked)) for picked in pairings)
        found = sentences.align(*names, vectors)
        assert sum(match.cosine or 0 for match in found) == pytest.approx(best, abs=1e-5)
        assert [match.first for match in found if match.first] == names[0]
        assert sorted(match.second for match in found if match.second) == names[1]
        for match in found:
            assert (match.cosine is None) == (match.first is None or match.second is None)
            if match.first and match.second:
                own, other = vectors[match.first], vectors[match.second]
                assert match.cosine == pytest.approx(float(own @ other), abs=1e-6)


def test_alignment_without_vectors_counts_words() -> None:
    found = sentences.align(["red circle on top", "so two"], ["that makes two", "a red red circle", "blue"], None)
    product, lengths = 1 * 2 + 1 * 1, math.sqrt(4) * math.sqrt(1 + 4 + 1)
    assert found[0] == ("red circle on top", "a red red circle", pytest.approx(product / lengths))
    assert found[1] == ("so two", "that makes two", pytest.approx(1 / math.sqrt(2 * 3)))
    assert found[2] == (None, "blue", None)


def test_alignment_with_an_empty_text() -> None:
    assert sentences.align([], ["a"], None) == [(None, "a", None)]
    assert sentences.align(["…"], ["a"], None) == [("…", None, None), (None, "a", None)]
