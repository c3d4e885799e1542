"""The settings in which a sweep's runs differ, their results over seeds, and the best one. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from app.curves.grouping import ABSENT, ARM, is_of_one_run, value_text
from app.curves.values import AGGREGATES, Cell
from store.db.rows import RunDetail
from store.db.values import flat
from trainer.spec.statistics import Estimate, holm, over_seeds, seeds_differ_p

FIRST_METRICS = ("test/accuracy", "val/accuracy", "probe/accuracy", "reward", "probe/reward")
"""Metrics by which settings are ranked by default, in order of preference."""
FALLING = ("loss", "kl", "grad_norm", "time/", "perplexity", "error")
"""A metric is better when lower if its name, or the part after its last slash, begins with one of these."""
SHARES = ("accuracy", "share", "wellformed", "exact_match", "pass@", "maj@", "cos@", "frac_", "clip_ratio")
"""A metric from 0 to 1 is a share of examples if its name has one of these."""
SURE = 0.05

Factors = dict[str, dict[int, Cell]]
"""Values by run id, for each field in which the runs differ."""


class Setting(NamedTuple):
    """One combination of values with the results of its runs."""

    values: tuple[Cell, ...]
    """In the order of the factors."""
    runs: tuple[int, ...]
    results: tuple[float, ...]
    is_share: bool = False

    @property
    def mean(self) -> float:
        return float(np.mean(self.results))

    @property
    def interval(self) -> Estimate | None:
        """Return Student's 95 % interval of the mean over seeds, cut off for a share; None for a single run."""
        return over_seeds(self.results, share=self.is_share)

    @property
    def is_cut_off(self) -> bool:
        """Return whether the interval would reach beyond what a share can be."""
        return self.interval != over_seeds(self.results)


class Ranked(NamedTuple):
    """A setting compared with the best one; `p` is from Welch's test, Holm-corrected, None with too few seeds."""

    setting: Setting
    beyond: float
    """Its mean minus the mean of the best setting."""
    p: float | None = None

    @property
    def is_clear(self) -> bool:
        """Return whether it differs significantly from the best."""
        return self.p is not None and self.p < SURE


def factors(runs: Sequence[RunDetail], arms: Mapping[int, str]) -> Factors:
    """Return the fields in which runs differ, except seeds and names; an arm replaces the fields that it determines.

    Of fields that split the runs in the same way, only the first is returned. Each reward is a field by its weight.
    """
    ordered = sorted(runs, key=lambda run: run.id)
    settings = {run.id: _settings(run) for run in ordered}
    result: Factors = {}
    if len({arms.get(id) for id in settings}) > 1:
        result[ARM] = {id: arms.get(id, ABSENT) for id in settings}
    for field in dict.fromkeys(key for each in settings.values() for key in each):
        values = {id: _cell(each.get(field)) for id, each in settings.items()}
        if is_of_one_run(field) or len(set(values.values())) < 2:
            continue
        if ARM in result and _determines(result[ARM], values):
            continue
        if not any(_determines(other, values) and _determines(values, other) for other in result.values()):
            result[field] = values
    return result


def _settings(run: RunDetail) -> dict[str, Any]:
    # Where a run was imported from is no setting, and would stand for those that split the runs in the same way.
    fields = flat({key: value for key, value in run.config.items() if key not in ("rewards", "imported")})
    return fields | {f"rewards.{name}": weight for name, weight in run.reward_weights.items()}


def _cell(value: Any) -> Cell:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return ABSENT if value is None else str(value)


def _determines(some: Mapping[int, Cell], others: Mapping[int, Cell]) -> bool:
    """Return whether the first field's value determines the second's in all runs."""
    pairs = {(value, others[id]) for id, value in some.items()}
    return len(pairs) == len({value for value, _ in pairs})


def in_order(values: Iterable[Cell]) -> list[Cell]:
    """Return the distinct values: numbers by size, then texts alphabetically."""
    return sorted(set(values), key=lambda value: (isinstance(value, str), value))


def label(factors: Mapping[str, Mapping[int, Cell]], values: Sequence[Cell]) -> str:
    """Return `beta 0.02 · schedule cosine`."""
    parts = [
        value_text(value) if field == ARM else f"{field.rpartition('.')[2]} {value_text(value)}"
        for field, value in zip(factors, values, strict=True)
    ]
    return " · ".join(parts) or "same settings"


def settings(
    factors: Mapping[str, Mapping[int, Cell]], results: Mapping[int, float], *, is_share: bool = False
) -> list[Setting]:
    """Return each combination of values with finite results, in the order of the runs."""
    groups: dict[tuple[Cell, ...], list[int]] = {}
    for id, result in results.items():
        if np.isfinite(result):
            groups.setdefault(tuple(values[id] for values in factors.values()), []).append(id)
    return [Setting(values, tuple(ids), tuple(results[id] for id in ids), is_share) for values, ids in groups.items()]


def rank_settings(settings: Sequence[Setting], *, lower: bool) -> list[Ranked]:
    """Return the settings, best mean first, each compared with the best."""
    ordered = sorted(settings, key=lambda setting: setting.mean if lower else -setting.mean)
    if not ordered:
        return []
    best, rest = ordered[0], ordered[1:]
    raw = {place: seeds_differ_p(best.results, each.results) for place, each in enumerate(rest)}
    known_p = {place: p for place, p in raw.items() if p is not None}
    corrected = dict(zip(known_p, holm(list(known_p.values())), strict=True))
    compared = [Ranked(each, each.mean - best.mean, corrected.get(place)) for place, each in enumerate(rest)]
    return [Ranked(best, 0.0), *compared]


def first_metric(recorded: Mapping[str, frozenset[int]]) -> str:
    """Return the default metric for ranking: the one of FIRST_METRICS that most runs recorded, the first of ties."""
    usual = [name for name in FIRST_METRICS if name in recorded] or sorted(recorded)
    return max(usual, key=lambda name: len(recorded[name]))


def is_falling(metric: str) -> bool:
    """Return whether lower values of a metric are better, judged by its name."""
    return metric.startswith(FALLING) or metric.rpartition("/")[2].startswith(FALLING)


def is_share(metric: str, results: Iterable[float]) -> bool:
    """Return whether a metric is a share of examples, judged by its name and by its finite values."""
    name = metric.rpartition("/")[2].lower()
    is_named = any(word in name for word in SHARES)
    return is_named and all(0.0 <= value <= 1.0 for value in results if np.isfinite(value))


def first_aggregate(metric: str) -> str:
    """Return a metric's default aggregate: the last value of an accuracy, else the mean of the last values."""
    names = list(AGGREGATES)
    return names[0] if "/accuracy" in metric else names[-1]


def runs_in_boxes(
    places: Mapping[int, Sequence[float]], boxes: Sequence[tuple[float, float, float, float]]
) -> set[int]:
    """Return the runs whose lines pass a box on every axis that has boxes; none if no axis has a box.

    `places` are a run's positions on the axes, which lie at 0, 1, 2, …; a box is x0, x1, y0, y1.
    """
    axes: dict[int, list[tuple[float, float]]] = {}
    for x0, x1, y0, y1 in boxes:
        for axis in range(int(np.ceil(min(x0, x1))), int(np.floor(max(x0, x1))) + 1):
            axes.setdefault(axis, []).append((min(y0, y1), max(y0, y1)))
    width = min((len(heights) for heights in places.values()), default=0)
    boxed_axes = {axis: each for axis, each in axes.items() if 0 <= axis < width}
    if not boxed_axes:
        return set()
    return {
        id
        for id, heights in places.items()
        if all(any(low <= heights[axis] <= high for low, high in each) for axis, each in boxed_axes.items())
    }
