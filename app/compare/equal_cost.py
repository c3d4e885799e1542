"""Compare runs at equal cost: the accuracy of each at the largest budget at which all of them were measured.

A budget is counted in updates, training examples, device seconds or tokens. Pure functions of validation measurements;
test results are not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from app.compare.groups import Group, Member
from app.shared.conditions import benchmark_of, examples_per_step, running_tokens
from store.db.rows import Clock, RunDetail, Series

Floats = npt.NDArray[np.float64]
Budget = Literal["updates", "examples", "device seconds", "tokens"]
BUDGETS: dict[Budget, str] = {
    "updates": "updates",
    "examples": "training examples seen",
    "device seconds": "device seconds of training",
    "tokens": "tokens trained on, including prompts",
}
"""Description of each budget."""
Source = Literal["val", "probe"]


class Cost(NamedTuple):
    """A run's cumulative cost after each of `steps`, which increase from 0; NaN if unknown."""

    steps: Floats
    spent: Mapping[Budget, Floats]

    def at(self, step: int, budget: Budget) -> float:
        return float(np.interp(step, self.steps, self.spent[budget]))


class AccuracyPoint(NamedTuple):
    """Accuracy on held-out examples after a number of updates."""

    step: int
    right: int
    n: int


class Measurements(NamedTuple):
    """A run's measurements by step, and its cost at each."""

    name: str
    group: Group
    points: Sequence[AccuracyPoint]
    cost: Cost

    def places(self, budget: Budget) -> Floats:
        return np.array([self.cost.at(point.step, budget) for point in self.points])


class Reached(NamedTuple):
    """The last measurement within a budget, its cost, and the first measurement beyond the budget."""

    run: Measurements
    point: AccuracyPoint | None
    cost: float
    beyond: AccuracyPoint | None
    cost_beyond: float


def cost(run: RunDetail, clock: Clock, seconds: Series) -> Cost:
    """Return a run's cost; `seconds` is the running total of `time/step`, without evaluations and pauses."""
    steps = np.concatenate([[0.0], clock.step])
    examples = examples_per_step(run)
    has_tokens = np.isfinite(clock.tokens)
    return Cost(
        steps,
        {
            "updates": steps,
            "examples": steps * (np.nan if examples is None else examples),
            "device seconds": _from_zero(steps, seconds.step, seconds.value),
            "tokens": _from_zero(steps, clock.step[has_tokens], running_tokens(clock.tokens[has_tokens])),
        },
    )


def _from_zero(steps: Floats, at: npt.NDArray[np.int64], total: Floats) -> Floats:
    """Return a cumulative total at `steps`, 0 at step 0; NaN if nothing is known."""
    if not len(at):
        return np.full(len(steps), np.nan)
    return np.interp(steps, np.concatenate([[0], at]), np.concatenate([[0.0], total]))


def measured_points(member: Member, source: Source) -> list[AccuracyPoint]:
    """Return the latest finished measurement of each step, on the validation split or a probe."""
    samples = (member.run.config.get("evaluation") or {}).get("probe_samples", 0) if source == "probe" else 0
    benchmark = benchmark_of(member.run, member.evaluations, source)
    by_step: dict[int, AccuracyPoint] = {}
    for evaluation in sorted(member.evaluations, key=lambda each: each.id):
        share = evaluation.metrics.get("exact_match" if source == "val" else "accuracy")
        if (
            (evaluation.kind, evaluation.benchmark) == (source, benchmark)
            and evaluation.ended_at is not None
            and share is not None
        ):
            n = evaluation.metrics.get("n") or evaluation.total // (1 + samples)
            by_step[evaluation.step] = AccuracyPoint(evaluation.step, round(share * n), n)
    return [by_step[step] for step in sorted(by_step)]


def largest(runs: Sequence[Measurements], budget: Budget) -> float | None:
    """Return the largest budget at or beyond which all runs were measured; None if a run's cost is unknown."""
    ends = [run.places(budget)[-1] for run in runs if run.points]
    return float(min(ends)) if ends and np.isfinite(ends).all() else None


def reached_within(run: Measurements, budget: Budget, limit: float) -> Reached:
    places = run.places(budget)
    count = int(np.count_nonzero(places <= limit))
    point, beyond = (run.points[i] if 0 <= i < len(run.points) else None for i in (count - 1, count))
    cost, cost_beyond = (float("nan") if each is None else run.cost.at(each.step, budget) for each in (point, beyond))
    return Reached(run, point, cost, beyond, cost_beyond)
