"""The headline numbers of a run: the latest value of each, and what it was measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import streamlit as st

from app.shared import data, data_needs, format, status
from app.shared.conditions import benchmark_of
from store.db.rows import EvaluationRow, RunDetail, Series
from store.runs import MEASURED


class Figure(NamedTuple):
    """A headline number: its metric on training samples, and on the probe for runs without such samples."""

    label: str
    trained: str
    probed: str
    is_share: bool
    help: str


class Headline(NamedTuple):
    """A number, its first value (None if there is only one), and what it was measured on."""

    value: float | None
    first: float | None
    source: str


AVERAGED = 5
"""Number of training steps averaged for the first and the last value; evaluations are not averaged."""
NOTHING = Headline(None, None, "not measured yet")
REWARD = Figure("Reward", "reward", "probe/reward", False, "Weighted sum of the reward components.")
REASONING = (
    Figure(
        "Reasoning steps",
        "reasoning_steps",
        "probe/steps",
        False,
        "Mean number of numbered steps per completion that say something new.",
    ),
    Figure(
        "Well-formed",
        "wellformed_share",
        "probe/wellformed",
        True,
        "Share of completions with one think block, one answer block and nothing else.",
    ),
)
NEEDS = {"reasoning_steps": data_needs.THINKING, "wellformed_share": data_needs.FORM}
"""What each number needs from a script's texts."""
ACCURACY_HELP = "Share of greedy answers that equal the true count, on examples that training never sees."


def headlines(run: RunDetail) -> None:
    """Show each number with its source and its change since the start."""
    sampled = (REWARD, *REASONING)
    series = data.read_ends(run.id, [name for each in sampled for name in (each.trained, each.probed)], AVERAGED)
    evaluations = data.list_evaluations(run.id)
    benchmark, reasoning = run.dataset, list(REASONING)
    if data_needs.is_script(run):
        has = data.read_contents(run.id)
        benchmark = benchmark_of(run, evaluations, "val")
        reasoning = [each for each in REASONING if data_needs.allows(has, NEEDS[each.trained])]
    own_evaluations = [each for each in evaluations if each.benchmark == benchmark]
    with st.grid(4, min_column_width=190, gap="small"):
        tile(REWARD.label, of_samples(REWARD, series, own_evaluations), REWARD.is_share, REWARD.help)
        tile("Held-out accuracy", of_evaluations(own_evaluations), True, ACCURACY_HELP)
        for figure in reasoning:
            tile(figure.label, of_samples(figure, series, own_evaluations), figure.is_share, figure.help)


def tile(label: str, headline: Headline, is_share: bool, help: str) -> None:
    with st.container(border=True, height="stretch", gap="xxsmall", key=f"tile_{label}"):
        delta = change_since_start(headline, is_share)
        description = None if delta is None else "since the start"
        st.metric(label, value_text(headline.value, is_share), delta, delta_description=description, help=help)
        st.caption(headline.source)


def of_samples(figure: Figure, series: Mapping[str, Series], evaluations: Sequence[EvaluationRow]) -> Headline:
    """Return the value on training samples, else on the probe."""
    if (recorded := finite_values(series, figure.trained)) is not None:
        steps, values = recorded
        n = min(AVERAGED, max(1, len(values) // 2))
        span = f"steps {steps[-n]} to {steps[-1]}" if n > 1 else f"step {steps[-1]}"
        first = float(values[:n].mean()) if len(values) > 1 else None
        return Headline(float(values[-n:].mean()), first, f"sampled in training · {span}")
    if (recorded := finite_values(series, figure.probed)) is None:
        return NOTHING
    steps, values = recorded
    probes = [each for each in evaluations if (each.kind, each.step) == ("probe", steps[-1])]
    of = f" of {format.count(examples(probes[-1]))}" if probes else ""
    first = float(values[0]) if len(values) > 1 else None
    return Headline(float(values[-1]), first, f"sampled · probe{of} · step {steps[-1]}")


def finite_values(series: Mapping[str, Series], name: str) -> tuple[list[int], npt.NDArray[np.float64]] | None:
    """Return the steps and values of a metric where finite; None without any."""
    if name not in series:
        return None
    is_known = np.isfinite(series[name].value)
    return (series[name].step[is_known].tolist(), series[name].value[is_known]) if is_known.any() else None


def of_evaluations(evaluations: Sequence[EvaluationRow]) -> Headline:
    """Return the accuracy of the latest finished evaluation; of several at one step, the one with most examples."""
    done = [each for each in evaluations if each.kind in MEASURED and each.ended_at and accuracy(each) is not None]
    if not done:
        return NOTHING
    checkpoint = max(done, key=lambda each: each.id).step
    best = min(
        (each for each in done if each.step == checkpoint), key=lambda each: (MEASURED.index(each.kind), -each.id)
    )
    first = min(done, key=lambda each: (each.step, MEASURED.index(each.kind)))
    source = f"greedy · {status.EVALUATED[best.kind]} of {format.count(examples(best))} · step {best.step}"
    return Headline(accuracy(best), accuracy(first) if first.step < best.step else None, source)


def accuracy(evaluation: EvaluationRow) -> float | None:
    """Return the exact match, which probes of earlier versions store under another name."""
    return evaluation.metrics.get("exact_match", evaluation.metrics.get("accuracy"))


def examples(evaluation: EvaluationRow) -> int:
    samples = (evaluation.conditions.get("samples") or {}).get("n") or 0
    return int(evaluation.total // (1 + samples))


def value_text(value: float | None, is_share: bool) -> str:
    if is_share or value is None:
        return format.percent(value)
    return f"{value:.2f}"


def change_since_start(headline: Headline, is_share: bool) -> str | int | None:
    if headline.value is None or headline.first is None:
        return None
    value = headline.value - headline.first
    text = f"{100 * value:+.0f} points" if is_share else f"{value:+.2f}"
    return 0 if text.lstrip("+-").split()[0] in ("0", "0.00") else text
