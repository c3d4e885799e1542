"""Rows of completions, evaluations and predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.db.rows.examples import StoredExample

Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class TraceFields:
    """A text with the results of `store.trace.parse` and of the rewards."""

    text: str
    think: Span | None = None
    answer_span: Span | None = None
    answer: int | None = None
    wellformed: bool
    correct: bool | None = None
    reasoning_steps: int = 0
    """Number of counted reasoning steps, without a cap."""
    tokens: int | None = None
    """Generated tokens, including the end token."""
    truncated: bool = False
    reward: float | None = None
    """Weighted sum."""
    rewards: dict[str, float | None] = field(default_factory=dict)
    """Unweighted value of each reward component."""

    @property
    def think_text(self) -> str | None:
        return self.text[slice(*self.think)] if self.think else None


@dataclass(frozen=True, kw_only=True)
class CompletionRow(TraceFields):
    """A completion sampled for an update: number `index` in group number `group` of the step."""

    generation: int
    group: int | None
    index: int
    example_id: int | None = None
    advantage: float | None = None


class TokenRow(NamedTuple):
    """Per-token measurements of a completion, including the end token; None for a value that is not finite."""

    ends: tuple[int, ...]
    """Index of the character after each token in the text."""
    entropy: tuple[float | None, ...]
    """Entropy in nats of the policy's distribution from which each token was sampled."""
    logp: tuple[float | None, ...]
    """Log-probability of each token under the policy."""
    base_logp: tuple[float | None, ...]
    """The same under the weights from which the run started: the base, with the given adapter if any."""


class StoredTokens(NamedTuple):
    step: int
    """Number of updates after which the policy was measured."""
    exact: bool
    """Whether these are the sampled tokens and weights; if not, the text was tokenized again for a checkpoint."""
    tokens: TokenRow


@dataclass(frozen=True, kw_only=True)
class PredictionRow(TraceFields):
    """An answer in an evaluation; sample 0 is greedy, 1..K are sampled."""

    example_id: int
    sample: int = 0
    similarity: float | None = None
    seconds: float | None = None
    """In seconds: the duration of the batch divided by its size."""


@dataclass(frozen=True, kw_only=True)
class StoredCompletion(CompletionRow):
    id: int
    run_id: int
    step: int
    example: str | None
    """`dataset/split/key`."""
    truth: int | None


@dataclass(frozen=True, kw_only=True)
class StoredPrediction(PredictionRow):
    id: int
    evaluation_id: int
    step: int
    benchmark: str
    kind: str
    example: str
    """`dataset/split/key`."""
    truth: int | None


class GroupRow(NamedTuple):
    """The completions of one example at one step, sorted by index."""

    step: int
    group: int | None
    example: StoredExample | None
    completions: list[StoredCompletion]


class EvaluationRow(NamedTuple):
    id: int
    run_id: int
    benchmark: str
    split: str
    kind: str
    step: int
    conditions: dict[str, Any]
    conditions_hash: str
    encoder: str | None
    total: int
    done: int
    metrics: dict[str, Any]
    started_at: float
    ended_at: float | None


class Scores(NamedTuple):
    """The greedy predictions of an evaluation, with one entry per example, sorted by example id."""

    evaluation_id: int
    example_id: NDArray[np.int64]
    prediction_id: NDArray[np.int64]
    image: NDArray[np.str_]
    """SHA-256 of the first image; questions about the same image are not independent."""
    truth: NDArray[np.float64]
    answer: NDArray[np.float64]
    """NaN where the answer could not be parsed."""
    correct: NDArray[np.float64]
    """1.0 or 0.0."""
    similarity: NDArray[np.float64]
    """NaN where there is none."""
