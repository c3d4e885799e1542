"""A run's completions in numbers, step by step: how form, reasoning and answers change. Reads no texts.

The summaries come with each recorded step; `add_summaries` makes them for steps of older databases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from store.connection import Store, reading, writing
from store.schema import Completion, Step, StepSummary
from store.sql import upsert
from store.summary import LIVENESS, UNREAD, summarize
from store.traces import groups

Floats = NDArray[np.float64]
SUMS = (
    *("n", "wellformed", "truncated", "judged", "right", "stepped", "several", "distinct"),
    *("compared", "over", "listed", "true", "variance"),
)
MOST_STEPS = 20
"""Completions with more reasoning steps are counted with these."""
TOKEN_BINS = 24
STEPS_AT_ONCE = 50
"""Steps that are summarized in one transaction: a trainer waits for it no longer than a moment."""


@dataclass(frozen=True)
class Emergence:
    """One entry a step in each array, steps rising. `sums` are those of `store.summary`, by name."""

    step: NDArray[np.int64]
    sums: dict[str, Floats]
    groups: dict[str, Floats]
    """Groups by kind of liveness."""
    covariance: dict[str, Floats]
    """By reward component, of its raw value with the reward, within groups."""
    steps: Floats
    """Completions by counted reasoning steps, (steps, values); the last column holds what is beyond."""
    tokens: Floats
    """Completions by length, (steps, bins of `token_width` tokens)."""
    token_width: int
    mean_steps: Floats
    mean_tokens: Floats
    answer_entropy: Floats
    """Bits; answers that cannot be read count as one answer."""
    truth_entropy: Floats
    """Bits, of the true counts that the same completions were asked for."""
    top_answer: Floats
    """Share of the commonest answer among those that can be read."""
    top_truth: Floats

    def share(self, part: str, whole: str = "n") -> Floats:
        """One sum as a share of another; NaN where that is 0."""
        return _ratio(self.sums[part], self.sums[whole])

    def liveness(self) -> dict[str, Floats]:
        """The share of each kind of group."""
        total = np.sum(list(self.groups.values()), axis=0)
        return {kind: _ratio(count, total) for kind, count in self.groups.items()}

    def movers(self, weights: Mapping[str, float]) -> dict[str, Floats]:
        """By component, its share of the within-group variance of the reward; they sum to 1. NaN where all is equal.

        A share is negative where the component goes against the reward.
        """
        return {
            name: _ratio(weights.get(name, 0.0) * covariance, self.sums["variance"])
            for name, covariance in self.covariance.items()
        }

    @property
    def excess(self) -> Floats:
        """Mean of counted steps minus true count, in well-formed completions."""
        return _ratio(self.sums["listed"] - self.sums["true"], self.sums["compared"])


def emergence(store: Store, run_id: int) -> Emergence:
    """All summarized steps of a run; empty arrays where there are none."""
    statement = select(StepSummary.step, StepSummary.figures).where(StepSummary.run_id == run_id)
    with reading(store) as connection:
        rows = connection.execute(statement.order_by(StepSummary.step)).all()
    return of_figures([row.step for row in rows], [row.figures for row in rows])


def of_figures(steps: list[int], figures: list[dict[str, Any]]) -> Emergence:
    """The figures of `store.summary.summarize`, one for each step, as arrays."""
    names = sorted({name for each in figures for name in each["covariance"]})
    lengths = [_values(each["tokens"]) for each in figures]
    longest = max((int(values.max()) for values, _ in lengths if len(values)), default=0)
    width = max(1, -(-(longest + 1) // TOKEN_BINS))
    counted = [_values(each["steps"]) for each in figures]
    answers = [_values({key: n for key, n in each["answers"].items() if key != UNREAD}) for each in figures]
    truths = [_values(each["truths"]) for each in figures]
    return Emergence(
        step=np.array(steps, np.int64),
        sums={name: np.array([each[name] for each in figures], float) for name in SUMS},
        groups={kind: np.array([each["groups"].get(kind, 0) for each in figures], float) for kind in LIVENESS},
        covariance={name: np.array([each["covariance"].get(name, 0.0) for each in figures]) for name in names},
        steps=_table(((np.minimum(values, MOST_STEPS), n) for values, n in counted), len(figures), MOST_STEPS + 1),
        tokens=_table(((values // width, n) for values, n in lengths), len(figures), TOKEN_BINS),
        token_width=width,
        mean_steps=_each(_mean, counted),
        mean_tokens=_each(_mean, lengths),
        answer_entropy=np.array([_entropy(np.array(list(each["answers"].values()), float)) for each in figures]),
        truth_entropy=np.array([_entropy(n) for _, n in truths]),
        top_answer=np.array([_top(n) for _, n in answers]),
        top_truth=np.array([_top(n) for _, n in truths]),
    )


def unsummarized(store: Store, run_id: int) -> list[int]:
    """Steps that have completions and no summary."""
    without = ~select(StepSummary.step).where(StepSummary.run_id == run_id, StepSummary.step == Step.step).exists()
    sampled = select(Completion.id).where(Completion.run_id == run_id, Completion.step == Step.step).exists()
    statement = select(Step.step).where(Step.run_id == run_id, without, sampled).order_by(Step.step)
    with reading(store) as connection:
        return list(connection.scalars(statement))


def add_summaries(store: Store, run_id: int, steps: Iterable[int]) -> None:
    """Summarizes steps whose completions are stored; STEPS_AT_ONCE or fewer at a time, please."""
    rows = [{"run_id": run_id, "step": step, "figures": _figures(store, run_id, step)} for step in steps]
    if rows:
        with writing(store) as connection:
            connection.execute(upsert(connection.dialect.name, StepSummary).on_conflict_do_nothing(), rows)


def _figures(store: Store, run_id: int, step: int) -> dict[str, Any]:
    found = groups(store, run_id, step)
    truths = {group.example.id: group.example.answer for group in found if group.example}
    return summarize([row for group in found for row in group.completions], truths)


def _values(histogram: Mapping[Any, int]) -> tuple[NDArray[np.int64], Floats]:
    """A histogram as values, in any order, and their counts; JSON has made texts of the values."""
    return np.array([int(key) for key in histogram], np.int64), np.array(list(histogram.values()), float)


def _table(rows: Iterable[tuple[NDArray[np.int64], Floats]], height: int, width: int) -> Floats:
    table = np.zeros((height, width))
    for i, (places, counts) in enumerate(rows):
        np.add.at(table[i], places, counts)
    return table


def _each(
    figure: Callable[[NDArray[np.int64], Floats], float], histograms: Iterable[tuple[NDArray[np.int64], Floats]]
) -> Floats:
    return np.array([figure(values, counts) for values, counts in histograms], float)


def _mean(values: NDArray[np.int64], counts: Floats) -> float:
    return float(values @ counts / counts.sum()) if len(values) else np.nan


def _entropy(counts: Floats) -> float:
    """Bits; NaN of nothing."""
    if not counts.sum():
        return np.nan
    shares = counts[counts > 0] / counts.sum()
    return float(max(0.0, -(shares * np.log2(shares)).sum()))


def _top(counts: Floats) -> float:
    return float(counts.max() / counts.sum()) if len(counts) else np.nan


def _ratio(part: Floats, whole: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
