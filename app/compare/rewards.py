"""Total rewards of runs with different rewards, rescored under one definition.

The answers to the probes are rescored, since they use the same examples for every run and method.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from app.compare.budgets import cost
from app.compare.equal_cost import BUDGETS, Budget
from app.compare.figures import Rewarded, rewards
from app.compare.groups import Group
from app.compare.selection import names, place_in_method
from app.shared import data, format
from app.shared.live_chart import live_chart
from app.shared.rescoring import COMPUTABLE, Scheme, mean_total
from store.db.engine import Store
from store.evaluations.predictions import iter_predictions_of
from trainer.spec.config import ConfigError, RunConfig, from_dict

OWN = "Custom weights"
ANSWERS = ("greedy", "sampled")
Weights = Mapping[str, float]


def show(store: Store, groups: Sequence[Group], budget: Budget) -> None:
    trained = {name: group for name, group in names(groups).items() if group.first.method != "none"}
    if not trained:
        st.caption("None of the chosen runs was trained.")
        return
    weights = definition(trained)
    answers = st.segmented_control("Answers", ANSWERS, default=ANSWERS[0], key="compare.answers", required=True)
    st.caption(f"Total = {format.literal(weights_text(weights))}")
    series, unknown = [], []
    for name, group in trained.items():
        totals_by_step = _rescored(store, group, weights, is_sampled=answers == "sampled")
        if totals_by_step is None:
            unknown.append(name)
        elif totals_by_step:
            spent = cost(store, group.first)
            places = np.array([spent.at(step, budget) for step in totals_by_step])
            totals = np.array(list(totals_by_step.values()))
            series.append(Rewarded(name, group.first.method, place_in_method(groups, group), places, totals))
    if unknown:
        parts = ", ".join(map(format.literal, unknown))
        st.caption(f"Left out because they did not record all components of this definition: {parts}.")
    if series:
        alt = f"Mean total reward of the probes' {answers} answers over {BUDGETS[budget]}, as {weights_text(weights)}"
        live_chart(rewards(series, BUDGETS[budget]), key=f"compare.rewards.{budget}", alt=alt)
    elif not unknown:
        st.caption(f"No probe has {answers} answers yet.")


def definition(trained: Mapping[str, Group]) -> Weights:
    """Show the choice of a definition and return its weights: those of a run, GRPO first, or custom ones."""
    by_words: dict[str, Weights] = {}
    for group in sorted(trained.values(), key=lambda group: group.first.method != "grpo"):
        if group.first.reward_weights:
            by_words.setdefault(weights_text(group.first.reward_weights), group.first.reward_weights)
    of = {text: [n for n, g in trained.items() if weights_text(g.first.reward_weights) == text] for text in by_words}
    chosen = st.selectbox(
        "Definition",
        [*by_words, OWN],
        key="compare.definition",
        format_func=lambda text: text if text == OWN else f"{text} ({', '.join(of[text])})",
    )
    if chosen in by_words:
        return by_words[chosen]
    labels = dict.fromkeys([*(label for weights in by_words.values() for label in weights), *COMPUTABLE])
    with st.container(horizontal=True):
        return {
            label: st.number_input(label, value=0.0, step=0.25, format="%g", key=f"compare.weight.{label}", width=140)
            for label in labels
        }


def weights_text(weights: Weights) -> str:
    """Return weights as text: `2 × format + 0.25 × steps`."""
    return " + ".join(f"{weight:g} × {label}" for label, weight in sorted(weights.items()) if weight) or "nothing"


def _rescored(store: Store, group: Group, weights: Weights, *, is_sampled: bool) -> dict[int, float] | None:
    """Return mean totals of the first seed's probes by step; None if a component was not recorded."""
    probes = {e.step: e.id for e in group.members[0].evaluations if e.kind == "probe" and e.ended_at is not None}
    scheme = json.dumps(dict(weights), sort_keys=True)
    config = json.dumps(group.first.config, sort_keys=True)
    totals = _totals(store, tuple(probes.values()), is_sampled, scheme, config)
    known_totals = {step: total for step, total in zip(probes, totals, strict=True) if total is not None}
    return None if probes and not known_totals else dict(sorted(known_totals.items()))


@data.cache_by_arguments(64)
def _totals(store: Store, probes: tuple[int, ...], is_sampled: bool, weights: str, config: str) -> list[float | None]:
    scheme, settings = Scheme(json.loads(weights)), _readable(json.loads(config))
    rows_by_probe = (
        [row for row in iter_predictions_of(store, probe) if bool(row.sample) == is_sampled] for probe in probes
    )
    return [mean_total(rows, settings, scheme) for rows in rows_by_probe]


def _readable(config: dict[str, Any]) -> RunConfig:
    """Return a run's configuration, or the current defaults if it can no longer be read."""
    try:
        return from_dict(config)
    except ConfigError:
        return RunConfig()
