"""Read summaries of a run's completions by step (form, reasoning, answers), without reading texts.

Summaries are written with each recorded step; `add_summaries` adds them to steps of older databases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import Text, cast, func, select

from store.completions.rows import list_groups
from store.completions.summary import LIVENESS, UNREAD, summarize
from store.db.connection import Store, reading, writing
from store.db.rows import CompletionRow, StoredPrediction, TraceFields
from store.db.schema import Completion, Evaluation, Step, StepSummary
from store.db.sql import upsert
from store.evaluations.predictions import iter_predictions_of

Floats = NDArray[np.float64]
SUMS = (
    *("n", "wellformed", "truncated", "judged", "right", "stepped", "several", "distinct"),
    *("compared", "over", "listed", "true", "variance"),
)
MOST_STEPS = 20
"""The last column, which also counts completions with more reasoning steps."""
TOKEN_BINS = 24
MOST_SUMMARIES = 2048
"""Most summaries read per run; more would take too long, and a screen could not show them."""
_UNREAD = -1
STEPS_AT_ONCE = 50
"""Steps summarized in one transaction; short enough not to delay a trainer."""


@dataclass(frozen=True)
class Emergence:
    """Arrays with one entry per step, in ascending order. `sums` are those of `store.completions.summary`, by name."""

    step: NDArray[np.int64]
    sums: dict[str, Floats]
    groups: dict[str, Floats]
    """Numbers of groups by liveness."""
    covariance: dict[str, Floats]
    """Within-group covariance of each component's unweighted value with the reward."""
    reasoning_steps: Floats
    """Numbers of completions by counted reasoning steps, shape (steps, values); the last column has all with more."""
    tokens: Floats
    """Numbers of completions by length, shape (steps, bins); each bin is `token_width` tokens wide."""
    token_width: int
    mean_steps: Floats
    mean_tokens: Floats
    answer_entropy: Floats
    """In bits; all unreadable answers count as one answer."""
    truth_entropy: Floats
    """In bits, for the true counts of the same completions."""
    top_answer: Floats
    """Share of the most frequent answer among readable answers."""
    top_truth: Floats
    every: int = 1
    """Only every n-th summarized step is included, where n is this number."""

    def share(self, part: str, whole: str = "n") -> Floats:
        """Return one sum divided by another; NaN where the latter is 0."""
        return _ratio(self.sums[part], self.sums[whole])

    def liveness(self) -> dict[str, Floats]:
        """Return the share of groups by liveness."""
        total = np.sum(list(self.groups.values()), axis=0)
        return {kind: _ratio(count, total) for kind, count in self.groups.items()}

    def movers(self, weights: Mapping[str, float]) -> dict[str, Floats]:
        """Return each component's share of the reward's within-group variance; NaN where the variance is 0.

        The shares sum to 1. A share is negative where the component decreases as the reward increases.
        """
        return {
            name: _ratio(weights.get(name, 0.0) * covariance, self.sums["variance"])
            for name, covariance in self.covariance.items()
        }

    @property
    def excess(self) -> Floats:
        """Return the mean difference of counted steps and true count over well-formed completions."""
        return _ratio(self.sums["listed"] - self.sums["true"], self.sums["compared"])


def emergence(store: Store, run_id: int, *, limit: int = MOST_SUMMARIES) -> Emergence:
    """Return a run's summarized steps, or every 2nd, 3rd … of them if there are more than `limit`; may be empty."""
    of_run = StepSummary.run_id == run_id
    number = func.row_number().over(order_by=StepSummary.step).label("number")
    numbered = (
        select(StepSummary.step, cast(StepSummary.figures, Text).label("figures"), number).where(of_run).subquery()
    )
    with reading(store) as connection:
        every = max(1, -(-connection.execute(select(func.count()).where(of_run)).scalar_one() // limit))
        chosen = select(numbered.c.step, numbered.c.figures).where(numbered.c.number % every == 1 % every)
        rows = connection.execute(chosen.order_by(numbered.c.step)).all()
    # Parsing all steps as one text takes half the time of parsing each separately.
    figures = orjson.loads(f"[{','.join(row.figures for row in rows)}]")
    return replace(of_figures([row.step for row in rows], figures), every=every)


def probe_emergence(store: Store, run_id: int) -> Emergence:
    """Return the same from the finished probes of a run without training completions; an example counts as a group."""
    probes = (Evaluation.run_id == run_id, Evaluation.kind == "probe", Evaluation.ended_at.is_not(None))
    with reading(store) as connection:
        probe_rows = connection.execute(
            select(Evaluation.step, Evaluation.id).where(*probes).order_by(Evaluation.step)
        ).all()
    by_step = {row.step: list(iter_predictions_of(store, row.id)) for row in probe_rows}
    figures = [
        summarize([_as_sampled(row) for row in rows], {row.example_id: row.truth for row in rows})
        for rows in by_step.values()
    ]
    return of_figures(list(by_step), figures)


def _as_sampled(row: StoredPrediction) -> CompletionRow:
    trace = {each.name: getattr(row, each.name) for each in fields(TraceFields)}
    return CompletionRow(
        **trace, generation=row.step, group=row.example_id, index=row.sample, example_id=row.example_id
    )


def of_figures(steps: Sequence[int], figures: Sequence[Mapping[str, Any]]) -> Emergence:
    """Convert the results of `store.completions.summary.summarize`, one per step, to arrays."""
    height = len(figures)
    names = sorted({name for each in figures for name in each["covariance"]})
    counted, lengths = _histogram(figures, "reasoning_steps"), _histogram(figures, "tokens")
    answers, truths = _histogram(figures, "answers"), _histogram(figures, "truths")
    width = max(1, -(-(int(lengths.value.max(initial=0)) + 1) // TOKEN_BINS))
    return Emergence(
        step=np.array(steps, np.int64),
        sums={name: np.array([each[name] for each in figures], float) for name in SUMS},
        groups={kind: np.array([each["groups"].get(kind, 0) for each in figures], float) for kind in LIVENESS},
        covariance={name: np.array([each["covariance"].get(name, 0.0) for each in figures]) for name in names},
        reasoning_steps=counted.table(np.minimum(counted.value, MOST_STEPS), MOST_STEPS + 1, height),
        tokens=lengths.table(lengths.value // width, TOKEN_BINS, height),
        token_width=width,
        mean_steps=counted.mean(height),
        mean_tokens=lengths.mean(height),
        answer_entropy=answers.entropy(height),
        truth_entropy=truths.entropy(height),
        top_answer=answers.where(answers.value != _UNREAD).top(height),
        top_truth=truths.top(height),
    )


class _Histogram(NamedTuple):
    """Concatenated histograms of many steps: in the step with index `row`, `n` completions have `value`."""

    row: NDArray[np.int64]
    value: NDArray[np.int64]
    n: Floats

    def where(self, mask: NDArray[np.bool_]) -> _Histogram:
        return _Histogram(self.row[mask], self.value[mask], self.n[mask])

    def table(self, columns: NDArray[np.int64], width: int, height: int) -> Floats:
        """Return counts of shape (height, width); `columns` has the column of each entry."""
        counts = np.bincount(self.row * width + columns, self.n, minlength=height * width)
        return counts.astype(float).reshape(height, width)

    def total(self, height: int) -> Floats:
        return np.bincount(self.row, self.n, minlength=height).astype(float)

    def mean(self, height: int) -> Floats:
        weighted = np.bincount(self.row, self.n * self.value, minlength=height).astype(float)
        return _ratio(weighted, self.total(height))

    def entropy(self, height: int) -> Floats:
        """Return the entropy of each step in bits; NaN without completions."""
        total = self.total(height)
        share = self.n / total[self.row]
        bits = np.bincount(self.row, -share * np.log2(share), minlength=height)
        return np.where(total > 0, np.maximum(bits, 0.0), np.nan)

    def top(self, height: int) -> Floats:
        """Return the share of each step's most frequent value."""
        highest = np.zeros(height)
        np.maximum.at(highest, self.row, self.n)
        return _ratio(highest, self.total(height))


def _histogram(figures: Sequence[Mapping[str, Any]], name: str) -> _Histogram:
    """Return the histograms of many steps. JSON has values as text; few are distinct, so each is parsed only once."""
    histograms = [each[name] for each in figures]
    keys = list(chain.from_iterable(histograms))
    number = {key: _UNREAD if key == UNREAD else int(key) for key in set(keys)}
    return _Histogram(
        np.repeat(np.arange(len(histograms)), list(map(len, histograms))),
        np.fromiter(map(number.__getitem__, keys), np.int64, len(keys)),
        np.fromiter(chain.from_iterable(map(dict.values, histograms)), float, len(keys)),
    )


def thinned(emergence: Emergence, limit: int) -> Emergence:
    """Return at most `limit` entries by merging neighbouring steps; each entry has the first of its steps."""
    size = -(-len(emergence.step) // limit)
    if size <= 1:
        return emergence
    starts = np.arange(0, len(emergence.step), size)

    def added(values: Floats) -> Floats:
        return np.add.reduceat(values, starts, axis=0)

    def averaged(values: Floats) -> Floats:
        return _ratio(added(np.nan_to_num(values)), added(np.isfinite(values).astype(float)))

    return replace(
        emergence,
        step=emergence.step[starts],
        sums={name: added(values) for name, values in emergence.sums.items()},
        groups={kind: added(values) for kind, values in emergence.groups.items()},
        covariance={name: added(values) for name, values in emergence.covariance.items()},
        reasoning_steps=added(emergence.reasoning_steps),
        tokens=added(emergence.tokens),
        mean_steps=averaged(emergence.mean_steps),
        mean_tokens=averaged(emergence.mean_tokens),
        answer_entropy=averaged(emergence.answer_entropy),
        truth_entropy=averaged(emergence.truth_entropy),
        top_answer=averaged(emergence.top_answer),
        top_truth=averaged(emergence.top_truth),
    )


def unsummarized_steps(store: Store, run_id: int) -> list[int]:
    """Return the steps with completions but without a summary."""
    without = ~select(StepSummary.step).where(StepSummary.run_id == run_id, StepSummary.step == Step.step).exists()
    sampled = select(Completion.id).where(Completion.run_id == run_id, Completion.step == Step.step).exists()
    statement = select(Step.step).where(Step.run_id == run_id, without, sampled).order_by(Step.step)
    with reading(store) as connection:
        return list(connection.scalars(statement))


def add_summaries(store: Store, run_id: int, steps: Iterable[int]) -> None:
    """Summarize up to STEPS_AT_ONCE stored steps in one transaction."""
    rows = [{"run_id": run_id, "step": step, "figures": _figures(store, run_id, step)} for step in steps]
    if rows:
        with writing(store) as connection:
            connection.execute(upsert(connection.dialect.name, StepSummary).on_conflict_do_nothing(), rows)


def _figures(store: Store, run_id: int, step: int) -> dict[str, Any]:
    groups = list_groups(store, run_id, step)
    truths = {group.example.id: group.example.answer for group in groups if group.example}
    return summarize([row for group in groups for row in group.completions], truths)


def _ratio(part: Floats, whole: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
