"""Define similarity to the reference: the texts compared, when two count as close, and its floor and ceiling.

Evaluations, rewards and screens share these definitions. Similarity between two answers is a different metric, which
compares the texts of `trainer.spec.wording.style_text`, including those of malformed traces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.db.rows import Span
from trainer.spec.wording import NULL

CLOSE = 0.8
"""Cosine similarity above which two texts count as close."""
COS_AT = f"cos@{CLOSE}"
"""Displayed name of the share of close texts."""
CEILING_EXAMPLES = 200
"""Number of examples used for the ceiling; each costs the embedding of a second reference."""
ROWS_AT_ONCE = 256

Vectors = NDArray[np.floating[Any]]


def compared_text(text: str, think: Span | None) -> str:
    """Return the text that is compared with the reference: the think body, or NULL for a malformed trace.

    The rule for malformed traces is that of the original project.
    """
    return (text[slice(*think)].strip() if think else "") or NULL


def close_share(cosines: Sequence[float] | Vectors) -> float:
    """Return the share of cosines above CLOSE; NaN without any."""
    return float((np.asarray(cosines) > CLOSE).mean()) if len(cosines) else float("nan")


def floor(references: Vectors) -> tuple[float, float] | None:
    """Return the mean cosine between the references of two examples, over all pairs, and the share of close pairs.

    `references` are unit vectors, (examples, dimension), in any order. None with fewer than two.
    """
    n = len(references)
    if n < 2:
        return None
    total = close = 0.0
    for start in range(0, n, ROWS_AT_ONCE):
        cosines = references[start : start + ROWS_AT_ONCE] @ references.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = 0.0  # a reference is not paired with itself
        total += float(cosines.sum(dtype=np.float64))
        close += float((cosines > CLOSE).sum())
    pairs = n * (n - 1)
    return total / pairs, close / pairs


def ceiling_examples(n: int) -> NDArray[np.int64]:
    """Return the indices of the examples used for the ceiling: at most CEILING_EXAMPLES, evenly spread."""
    return np.unique(np.linspace(0, n - 1, CEILING_EXAMPLES).round().astype(np.int64)) if n else np.zeros(0, np.int64)
