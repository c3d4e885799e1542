"""The default charts of a set of runs, and the metric that each of them draws. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from store.completions import patterns

MEASURED = ("probe/", "val/", "test/", "eval/", "eval_")
"""Prefixes of metrics that are measured only at some steps."""
FALLBACK = 6
"""Number of charts for runs without any of the usual metrics."""


@dataclass(frozen=True)
class MetricChart:
    """A chart of one metric: the one of `metrics` that most of the runs recorded, or the first of these.

    The keys of default charts begin with a capital letter, so that they do not clash with names of metrics.
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
        "Share of greedy answers to held-out examples that equal the true count.",
        share=True,
    ),
    MetricChart(
        "Reasoning",
        "Reasoning steps",
        ("reasoning_steps", "probe/steps"),
        "Mean number of numbered steps that say something new, counted in well-formed completions (0 in others).",
    ),
    MetricChart(
        "Wellformed",
        "Well-formed",
        ("wellformed_share", "probe/wellformed"),
        "Share of completions with one think block, one answer block and nothing else.",
        share=True,
    ),
    MetricChart("Length", "Completion length (tokens)", ("completion_length", "probe/length"), log=True),
    MetricChart("KL", "KL to the starting policy", ("kl", "probe/kl"), "In nats per token, on own samples.", log=True),
    MetricChart(
        "Entropy",
        "Entropy (nats/token)",
        ("entropy", "probe/entropy"),
        "Near 0, the model no longer explores.",
        log=True,
    ),
    MetricChart("Gradient", "Gradient norm", ("grad_norm",), log=True),
    MetricChart("Seconds", "Seconds per step", ("time/step",), "Without evaluations and pauses.", log=True),
)
BY_KEY = {chart.key: chart for chart in FIRST}
Recorded = Mapping[str, frozenset[int]]
"""Ids of the runs that recorded each metric, by its name."""


def first(recorded: Recorded) -> list[str]:
    """Return the keys of the default charts for runs with these metrics."""
    usual = [chart.key for chart in FIRST if metric(chart, recorded) is not None]
    if usual:
        return usual
    return sorted(recorded, key=lambda name: (-len(recorded[name]), name))[:FALLBACK]


def chart(key: str) -> MetricChart:
    """Return the default chart with this key, else the chart of the metric with this name."""
    return BY_KEY.get(key) or MetricChart(key, key, (key,), log=True)


def metric(chart: MetricChart, recorded: Recorded) -> str | None:
    """Return the metric that a chart draws; None if no run recorded any of its metrics."""
    recorded_names = [name for name in chart.metrics if recorded.get(name)]
    return max(recorded_names, key=lambda name: len(recorded[name]), default=None)


def is_sparse(metric: str) -> bool:
    return metric.startswith(MEASURED)


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Return the names that match a case-insensitive RE2 expression. Raises StoreError."""
    is_wanted = patterns.matching(pattern)
    return [name for name in names if is_wanted(name)]


def by_prefix(names: Sequence[str]) -> dict[str, list[str]]:
    """Return sorted names by prefix, the part before the first slash; `` for those without a slash."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        prefix, slash, _ = name.partition("/")
        groups.setdefault(prefix if slash else "", []).append(name)
    return dict(sorted(groups.items()))
