"""Runs at equal cost: held-out accuracy over a budget, and at the largest common budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import streamlit as st

from app.compare import equal_cost
from app.compare.budgets import cost
from app.compare.equal_cost import BUDGETS, AccuracyPoint, Budget, Measurements, Reached, Source
from app.compare.figures import AccuracyCurve, accuracy_chart
from app.compare.groups import Group
from app.compare.selection import names, place_in_method
from app.shared import format
from app.shared.live_chart import live_chart
from store.db.engine import Store
from trainer.spec.statistics import wilson

SOURCES: dict[Source, str] = {"val": "Full validation split", "probe": "Probe: few examples, often"}


def show(store: Store, groups: Sequence[Group]) -> Budget:
    """Show the comparison and return the chosen budget."""
    with st.container(horizontal=True):
        budget = st.segmented_control("Budget", list(BUDGETS), default="examples", key="compare.budget", required=True)
        source = st.segmented_control(
            "Measured on",
            list(SOURCES),
            default="val",
            key="compare.source",
            required=True,
            format_func=SOURCES.__getitem__,
        )
    _draw(store, groups, budget, source)
    return budget


def _draw(store: Store, groups: Sequence[Group], budget: Budget, source: Source) -> None:
    runs = measurements(store, groups, source)
    if not runs:
        st.caption("No trained run has validation results yet.")
        return
    limit = equal_cost.largest(runs, budget)
    drawable = [each for each in runs if math.isfinite(each.places(budget)[-1])]
    silent = [format.literal(each.name) for each in runs if each not in drawable]
    if silent:
        st.caption(f"Unknown number of {BUDGETS[budget]}: {', '.join(silent)}.")
    if drawable:
        live_chart(figure(groups, drawable, budget, limit), key=f"compare.matched.{budget}", alt=takeaway(runs, budget))
    if limit is not None:
        table([equal_cost.reached_within(each, budget, limit) for each in runs], budget, limit)


def every_budget(store: Store, groups: Sequence[Group]) -> list[tuple[str, Any]]:
    """Return a title and a validation figure for each budget that is known for all runs."""
    runs = measurements(store, groups, "val")
    limits = {budget: equal_cost.largest(runs, budget) for budget in BUDGETS}
    return [
        (f"Validation accuracy over {BUDGETS[budget]}", figure(groups, runs, budget, limit))
        for budget, limit in limits.items()
        if limit is not None
    ]


def measurements(store: Store, groups: Sequence[Group], source: Source) -> list[Measurements]:
    """Return the measurements of the first seed of each group that was trained and measured."""
    trained = {name: group for name, group in names(groups).items() if group.first.method != "none"}
    made = [
        Measurements(name, group, equal_cost.measured_points(group.members[0], source), cost(store, group.first))
        for name, group in trained.items()
    ]
    return [each for each in made if each.points]


def figure(groups: Sequence[Group], runs: Sequence[Measurements], budget: Budget, limit: float | None) -> Any:
    tracks = [
        AccuracyCurve(
            each.name,
            each.group.first.method,
            place_in_method(groups, each.group),
            each.places(budget),
            [point.right for point in each.points],
            [point.n for point in each.points],
        )
        for each in runs
    ]
    return accuracy_chart(tracks, BUDGETS[budget], limit)


def takeaway(runs: Sequence[Measurements], budget: Budget) -> str:
    ends = [f"{each.name} {format.percent(each.points[-1].right / each.points[-1].n)}" for each in runs]
    return f"Held-out accuracy over {BUDGETS[budget]}; final values: {', '.join(ends)}."


def table(reached: Sequence[Reached], budget: Budget, limit: float) -> None:
    st.markdown(f"**At {format.count(limit)} {BUDGETS[budget]}**, the largest budget at which every run was measured")
    st.dataframe(
        {
            "run": [each.run.name for each in reached],
            "right": [accuracy(each.point) for each in reached],
            "measured at": [place(each.point, each.cost, budget) for each in reached],
            "next measurement": [accuracy(each.beyond) for each in reached],
            "next measured at": [place(each.beyond, each.cost_beyond, budget) for each in reached],
        },
        hide_index=True,
        alt=f"Accuracy of each run at {format.count(limit)} {BUDGETS[budget]}",
    )
    st.caption(
        "Each value is the run's last measurement within the budget; if that was much earlier, the next measurement "
        "shows the progress since then. Validation examples and first seeds only."
    )


def accuracy(point: AccuracyPoint | None) -> str:
    if point is None:
        return format.UNKNOWN
    low, high = wilson(point.right, point.n)
    return f"{100 * point.right / point.n:.1f} % ({100 * low:.1f}–{100 * high:.1f}) of {point.n}"


def place(point: AccuracyPoint | None, spent: float, budget: Budget) -> str:
    if point is None:
        return format.UNKNOWN
    return f"step {point.step}" + ("" if budget == "updates" else f": {format.count(spent)} {budget}")
