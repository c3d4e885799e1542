"""Compute an evaluation's metrics from its predictions. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from store.db.rows import PredictionRow
from store.trace import NUMBER_WORDS
from trainer.spec.similarity import close_share
from trainer.spec.statistics import majority_at_k, pass_at_k, wilson

RELAXED = 0.05
"""Relative error up to which `relaxed` counts an answer as right, as in CountQA (arXiv 2508.06585)."""
_INTEGER = re.compile(r"[0-9]{1,9}")
NUMBER = re.compile(rf"\b(?:[0-9]{{1,9}}|{'|'.join(NUMBER_WORDS)})\b", re.IGNORECASE)
"""A number as digits or as a word."""


def lenient_answer(text: str) -> int | None:
    """Return the last integer in the text, which an untrained base may mean as its answer."""
    integers = _INTEGER.findall(text)
    return int(integers[-1]) if integers else None


def concluded_number(think: str) -> int | None:
    """Return the last number in the reasoning, in digits (including a step's number) or as a word."""
    numbers = NUMBER.findall(think)
    if not numbers:
        return None
    last = numbers[-1].lower()
    return NUMBER_WORDS.index(last) if last in NUMBER_WORDS else int(last)


def summarize(
    rows: Sequence[PredictionRow], truths: Sequence[int], difficulties: Sequence[str | None] | None = None
) -> dict[str, Any]:
    """Return metrics of greedy predictions; `truths` and `difficulties` are in the order of `rows`.

    Errors (`mean_absolute_error`, `rmse`) are over answered examples, shares over all examples. `steps_equal_count`:
    among right, well-formed traces with numbered steps, the share whose number of steps equals the count (None without
    such traces). `consistent`: among well-formed traces whose reasoning has a number, the share that answers with the
    last one. `by_count` and `by_difficulty` have [right, n].
    """
    n = len(rows)
    right = [bool(row.correct) for row in rows]
    low, high = wilson(sum(right), n)
    errors = [abs(row.answer - truth) for row, truth in zip(rows, truths, strict=True) if row.answer is not None]
    listed = [
        row.reasoning_steps == truth
        for row, truth in zip(rows, truths, strict=True)
        if row.correct and row.reasoning_steps
    ]
    figures: dict[str, Any] = {
        "n": n,
        "exact_match": sum(right) / n,
        "exact_match_low": low,
        "exact_match_high": high,
        "exact_match_lenient": _share([lenient_answer(r.text) == t for r, t in zip(rows, truths, strict=True)]),
        "off_by_one": _share_within(rows, truths, lambda truth: 1),
        "relaxed": _share_within(rows, truths, lambda truth: RELAXED * truth),
        "wellformed": _share([row.wellformed for row in rows]),
        "answered": _share([row.answer is not None for row in rows]),
        "truncated": _share([row.truncated for row in rows]),
        "mean_absolute_error": float(np.mean(errors)) if errors else None,
        "rmse": float(np.sqrt(np.mean(np.square(errors)))) if errors else None,
        "mean_steps": float(np.mean([row.reasoning_steps for row in rows])),
        "mean_tokens": float(np.mean([row.tokens or 0 for row in rows])),
        "mean_truth": float(np.mean(truths)),
        "steps_equal_count": _share(listed) if listed else None,
        "consistent": _consistent(rows),
        "by_count": _tally(right, truths),
    }
    if difficulties is not None and any(difficulties):
        figures["by_difficulty"] = _tally(right, [difficulty or "unknown" for difficulty in difficulties])
    return figures | similarity_figures(rows)


def similarity_figures(rows: Sequence[PredictionRow]) -> dict[str, float | int | None]:
    """Return mean cosine and share of close texts, over all rows with a reference and over well-formed ones."""
    everyone = [row.similarity for row in rows if row.similarity is not None]
    sound = [row.similarity for row in rows if row.similarity is not None and row.wellformed]
    if not everyone:
        return {}
    return {
        "cos_mean": float(np.mean(everyone)),
        "cos_at_0.8": close_share(everyone),
        "cos_mean_wellformed": float(np.mean(sound)) if sound else None,
        "cos_at_0.8_wellformed": close_share(sound) if sound else None,
    }


def sampled_figures(rows: Sequence[PredictionRow], truths: Sequence[int]) -> dict[str, float]:
    """Return `pass@k` for k of 1, 2, 4, … and K, and `maj@k` for those above 1, from K samples per example.

    Both are unbiased means over all subsets of k samples. Rows of one example are adjacent; `truths` is in the order
    of `rows`.
    """
    numbered = zip(rows, truths, strict=True)
    examples = [list(group) for _, group in groupby(numbered, key=lambda pair: pair[0].example_id)]
    samples = len(examples[0])
    right = [sum(bool(row.correct) for row, _ in group) for group in examples]
    ks = sorted({k for k in (1, 2, 4, 8, 16, 32, 64) if k < samples} | {samples})
    figures = {f"pass@{k}": float(np.mean([pass_at_k(samples, each, k) for each in right])) for k in ks}
    voted = [([row.answer for row, _ in group], group[0][1]) for group in examples]
    for k in ks[1:] or ks:
        figures[f"maj@{k}"] = float(np.mean([majority_at_k(answers, truth, k) for answers, truth in voted]))
    return figures


def _consistent(rows: Sequence[PredictionRow]) -> float | None:
    pairs = [(concluded_number(row.think_text or ""), row.answer) for row in rows if row.wellformed]
    stated = [conclusion == answer for conclusion, answer in pairs if conclusion is not None and answer is not None]
    return _share(stated) if stated else None


def _share_within(rows: Sequence[PredictionRow], truths: Sequence[int], allowed: Callable[[int], float]) -> float:
    return _share([r.answer is not None and abs(r.answer - t) <= allowed(t) for r, t in zip(rows, truths, strict=True)])


def _tally(right: Sequence[bool], keys: Sequence[int | str]) -> dict[str, list[int]]:
    """Return [right, n] by key, sorted by key."""
    tally: dict[str, list[int]] = {str(key): [0, 0] for key in sorted(set(keys))}
    for is_right, key in zip(right, keys, strict=True):
        tally[str(key)][0] += is_right
        tally[str(key)][1] += 1
    return tally


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
