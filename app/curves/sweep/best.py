"""The best setting of a sweep, its uncertainty, and which other settings could be as good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app.curves.grouping import value_text
from app.curves.sweep.figures import Sweep
from app.curves.sweep.settings import Factors, Ranked, label
from app.curves.values import Cell
from app.shared import format
from store.db.rows import RunRow

RUN_PAGE = "../pages/run.py"


def show(sweep: Sweep, factors: Factors, order: Sequence[Ranked], runs: Mapping[int, RunRow], *, lower: bool) -> None:
    """Show the best setting in a sentence, and all settings in a table, best first."""
    best = order[0].setting
    with st.container(horizontal=True, vertical_alignment="center", key="best_setting"):
        st.markdown(f":material/emoji_events: **{format.literal(label(factors, best.values))}**", width="content")
        st.markdown(format.literal(result_sentence(sweep.title, order[0])), width="content")
        run = runs[sorted(best.runs, key=lambda id: sweep.results[id], reverse=not lower)[0]]
        name = f"Best run: {run.name} ({format.number(sweep.results[run.id])})"
        st.page_link(RUN_PAGE, label=format.literal(name), icon=":material/monitoring:", query_params={"run": run.uid})
    st.caption(format.literal(caution_sentence(order)))
    columns: dict[str, list[Any]] = {
        field: as_column([each.setting.values[place] for each in order]) for place, field in enumerate(factors)
    }
    intervals = [each.setting.interval for each in order]
    columns |= {
        "n": [len(each.setting.runs) for each in order],
        "mean": [each.setting.mean for each in order],
        "95 % from": [each.low if each else None for each in intervals],
        "to": [each.high if each else None for each in intervals],
        "Δ vs best": [None if each is order[0] else each.beyond for each in order],
        "p (Holm)": [None if each.p is None else format.p_value(each.p) for each in order],
    }
    if not any(intervals):
        columns = {name: cells for name, cells in columns.items() if name not in ("95 % from", "to", "p (Holm)")}
    levels = [name for name in ("mean", "95 % from", "to") if name in columns]
    form = format.aligned_format([value for name in levels for value in columns[name]])
    numbers = {name: form for name in levels} | {"Δ vs best": form.replace("%", "%+")}
    st.dataframe(
        columns,
        key="sweep.settings",
        hide_index=True,
        placeholder=format.UNKNOWN,
        column_config={
            **{name: st.column_config.NumberColumn(name, format=form) for name, form in numbers.items()},
            "p (Holm)": st.column_config.TextColumn("p (Holm)", alignment="right"),
        },
        alt=f"{len(order)} settings by {sweep.title}, the best first",
    )


def as_column(values: Sequence[Cell]) -> list[Cell]:
    """Return the cells of a column: numbers, or text if some cells are text."""
    return (
        list(values) if all(isinstance(value, float) for value in values) else [value_text(value) for value in values]
    )


def result_sentence(title: str, best: Ranked) -> str:
    """Return `val/accuracy 0.712, 95 % interval 0.68 to 0.744 over 5 seeds (Student's t).`"""
    interval, n = best.setting.interval, len(best.setting.runs)
    if interval is None:
        return f"{title} {format.number(best.setting.mean)} in one run: add a second seed to estimate the uncertainty."
    ends = f"{format.number(interval.low)} to {format.number(interval.high)}"
    how = "Student's t" + (", cut off because a share lies between 0 and 1" if best.setting.is_cut_off else "")
    return f"{title} {format.number(interval.value)}, 95 % interval {ends} over {n} seeds ({how})."


def caution_sentence(order: Sequence[Ranked]) -> str:
    """Return how many other settings could be as good, and a warning about selection bias."""
    if len(order) == 1:
        return "All of these runs have the same settings except for the seed."
    rest = order[1:]
    open_ = [each for each in rest if not each.is_clear]
    untested = sum(each.p is None for each in rest)
    if untested == len(rest):
        return "Significance is unknown, since no two settings have more than one seed: repeat them with more seeds."
    others = f"{len(rest)} other settings" if len(rest) > 1 else "1 other setting"
    parts = [f"{len(open_)} of {others} could be as good (Welch's t-test, corrected by Holm)."]
    if untested:
        parts.append(f"{untested} of them cannot be tested: too few seeds.")
    parts.append(
        f"Selecting the best of {len(order)} favours lucky results: expect a repetition to come out slightly worse."
    )
    return " ".join(parts)
