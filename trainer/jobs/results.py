"""Describe the results of a job's evaluations for a terminal."""

from __future__ import annotations

from store.db.engine import Store
from store.db.rows import EvaluationRow
from store.evaluations.records import list_evaluations

KINDS = ("test", "baseline", "thinking")
"""Kinds of evaluations that users request; those during training are on the progress line."""


def result_lines(store: Store, run_id: int, since: float) -> list[str]:
    """Return one line per evaluation of a run that ended after `since`, in seconds since the epoch."""
    return [
        _sentence(each)
        for each in list_evaluations(store, run_id)
        if each.kind in KINDS and each.ended_at is not None and each.ended_at >= since
    ]


def _sentence(evaluation: EvaluationRow) -> str:
    figures, n = evaluation.metrics, evaluation.metrics.get("n", evaluation.total)
    altered = evaluation.conditions.get("thinking")
    kind = f"thinking {altered}" if altered else evaluation.conditions.get("baseline") or evaluation.kind
    place = f"{evaluation.benchmark}, {kind}, step {evaluation.step}"
    if "changed" in figures:
        return f"{place}: {_with_interval(figures, 'changed')} of {n} answers change"
    results = [f"exact match {_with_interval(figures, 'exact_match')} of {n}"] if "exact_match" in figures else []
    results += [f"well-formed {figures['wellformed']:.3f}"] if "wellformed" in figures else []
    return f"{place}: {', '.join(results) or 'no results'}"


def _with_interval(figures: dict[str, float], name: str) -> str:
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    interval = "" if low is None or high is None else f" ({low:.3f}–{high:.3f})"
    return f"{figures[name]:.3f}{interval}"
