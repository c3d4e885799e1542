"""Figures of an evaluation from its predictions. Pure functions; knows nothing of models or databases."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from store.rows import PredictionRow
from trainer.similarity import CLOSE

_INTEGER = re.compile(r"[0-9]{1,9}")


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) when n is 0."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def lenient_answer(text: str) -> int | None:
    """The last integer in the text: what a cold base may mean."""
    found = _INTEGER.findall(text)
    return int(found[-1]) if found else None


def summarize(rows: Sequence[PredictionRow], truths: Sequence[int]) -> dict[str, float | int | None]:
    """Figures of greedy predictions; `truths` in the order of `rows`.

    `steps_equal_count` is the share of right, well-formed traces with as many counted steps as they count.
    """
    n = len(rows)
    right = sum(bool(row.correct) for row in rows)
    low, high = wilson(right, n)
    errors = [abs(row.answer - truth) for row, truth in zip(rows, truths, strict=True) if row.answer is not None]
    sound = [(row, truth) for row, truth in zip(rows, truths, strict=True) if row.correct and row.wellformed]
    figures: dict[str, float | int | None] = {
        "n": n,
        "exact_match": right / n,
        "exact_match_low": low,
        "exact_match_high": high,
        "exact_match_lenient": _share([lenient_answer(r.text) == t for r, t in zip(rows, truths, strict=True)]),
        "wellformed": _share([row.wellformed for row in rows]),
        "answered": _share([row.answer is not None for row in rows]),
        "truncated": _share([row.truncated for row in rows]),
        "mean_absolute_error": float(np.mean(errors)) if errors else None,
        "mean_steps": float(np.mean([row.steps for row in rows])),
        "mean_tokens": float(np.mean([row.tokens or 0 for row in rows])),
        "mean_truth": float(np.mean(truths)),
        "steps_equal_count": _share([row.steps == truth for row, truth in sound]) if sound else None,
    }
    return figures | similarity_figures(rows)


def similarity_figures(rows: Sequence[PredictionRow]) -> dict[str, float | int | None]:
    """Mean cosine and share above 0.8, over all rows that have a reference and over the well-formed ones."""
    everyone = [row.similarity for row in rows if row.similarity is not None]
    sound = [row.similarity for row in rows if row.similarity is not None and row.wellformed]
    if not everyone:
        return {}
    return {
        "cos_mean": float(np.mean(everyone)),
        "cos_at_0.8": _share([value > CLOSE for value in everyone]),
        "cos_mean_wellformed": float(np.mean(sound)) if sound else None,
        "cos_at_0.8_wellformed": _share([value > CLOSE for value in sound]) if sound else None,
    }


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
