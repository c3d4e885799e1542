"""Which charts a set of runs is first shown in, and which metric each of them draws. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from store.completions import patterns

MEASURED = ("probe/", "val/", "test/", "eval/", "eval_")
"""What metrics that are measured now and then begin with."""
FALLBACK = 6
"""Charts of runs that recorded none of the usual metrics."""


@dataclass(frozen=True)
class MetricChart:
    """A chart of one metric: the one of `metrics` that most of the runs recorded, the first of equals.

    The keys of usual charts begin with a capital, so that they are not taken for the names of metrics.
    """

    key: str
    title: str
    metrics: tuple[str, ...]
    help: str = ""
    share: bool = False
    log: bool = False


FIRST = (
    MetricChart("Reward", "Reward", ("reward", "probe/reward"), "Weighted sum of the reward components."),
    MetricChart(
        "Accuracy",
        "Held-out accuracy",
        ("val/accuracy", "probe/accuracy"),
        "Greedy answers to held-out examples that equal the true count.",
        share=True,
    ),
    MetricChart(
        "Reasoning",
        "Reasoning steps",
        ("reasoning_steps", "probe/steps"),
        "Numbered steps that say something new, counted in well-formed completions (0 in others).",
    ),
    MetricChart(
        "Wellformed",
        "Well-formed",
        ("wellformed_share", "probe/wellformed"),
        "One think block, one answer block, nothing else.",
        share=True,
    ),
    MetricChart("Length", "Completion length (tokens)", ("completion_length", "probe/length"), log=True),
    MetricChart("KL", "KL to the starting policy", ("kl", "probe/kl"), "In nats a token, on own samples.", log=True),
    MetricChart(
        "Entropy",
        "Entropy (nats a token)",
        ("entropy", "probe/entropy"),
        "Near 0 the model no longer explores.",
        log=True,
    ),
    MetricChart("Gradient", "Gradient norm", ("grad_norm",), log=True),
    MetricChart("Seconds", "Seconds a step", ("time/step",), "Evaluations and pauses are not in it.", log=True),
)
BY_KEY = {chart.key: chart for chart in FIRST}
Recorded = Mapping[str, frozenset[int]]
"""The runs that recorded each metric."""


def first(recorded: Recorded) -> list[str]:
    """Return the keys of the charts that runs with these metrics are first shown in."""
    usual = [chart.key for chart in FIRST if metric(chart, recorded) is not None]
    if usual:
        return usual
    return sorted(recorded, key=lambda name: (-len(recorded[name]), name))[:FALLBACK]


def chart(key: str) -> MetricChart:
    """Return a usual chart by its key, else that of a metric by its name."""
    return BY_KEY.get(key) or MetricChart(key, key, (key,), log=True)


def metric(chart: MetricChart, recorded: Recorded) -> str | None:
    """Return the metric that a chart draws, None if no run recorded any."""
    found = [name for name in chart.metrics if recorded.get(name)]
    return max(found, key=lambda name: len(recorded[name]), default=None)


def is_sparse(metric: str) -> bool:
    return metric.startswith(MEASURED)


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Return the names that a regular expression of RE2 is found in, whatever their case. Raises StoreError."""
    is_wanted = patterns.matching(pattern)
    return [name for name in names if is_wanted(name)]


def by_prefix(names: Sequence[str]) -> dict[str, list[str]]:
    """Return sorted names by what stands before their first slash; `` for those without one."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        prefix, slash, _ = name.partition("/")
        found.setdefault(prefix if slash else "", []).append(name)
    return dict(sorted(found.items()))
