"""A rescored run: how many more groups would have a signal, and which completions are judged differently."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from app.shared import figures, format, links
from app.shared.live_chart import live_chart
from app.shared.rescoring import MOST_CHANGES, StepScores


def show(scores: Sequence[StepScores]) -> None:
    """Show the result; nothing before the first step is rescored."""
    groups = sum(each.groups for each in scores)
    if not groups:
        return
    completions = sum(each.completions for each in scores)
    before, after = (sum(getattr(each, name) for each in scores) for name in ("live_before", "live_after"))
    other, turned = sum(each.other_best for each in scores), sum(each.turned for each in scores)
    with st.grid("auto", min_column_width=190):
        st.metric(
            "Groups with a signal",
            format.percent(after / groups),
            delta=f"{100 * (after - before) / groups:+.0f} points",
            help="Groups with different rewards; in all other groups, every advantage is zero.",
            border=True,
        )
        st.metric(
            "Groups with a new best completion",
            format.percent(other / groups),
            help="Groups in which none of the previous best completions is among the best now.",
            border=True,
        )
        st.metric(
            "Flipped advantages",
            format.percent(turned / max(1, completions)),
            help="Completions whose advantage changes sign: reinforced before and suppressed now, or vice versa.",
            border=True,
        )
    _charts(scores)
    _changes(scores)


def _charts(scores: Sequence[StepScores]) -> None:
    x = np.array([each.step for each in scores], dtype=np.float64)
    groups = np.array([max(1, each.groups) for each in scores], dtype=np.float64)
    pairs = {
        "Groups with a signal": (
            np.array([each.live_before for each in scores]) / groups,
            np.array([each.live_after for each in scores]) / groups,
        ),
        "Mean reward": (
            np.array([each.reward_before for each in scores]),
            np.array([each.reward_after for each in scores]),
        ),
    }
    with st.grid("auto", min_column_width=380):
        for title, (old, new) in pairs.items():
            with st.container(border=True):
                st.markdown(f"**{title}**")
                lines = [
                    figures.Line("recorded", x, old, figures.GREY, "dot"),
                    figures.Line("rescored", x, new, figures.BLUE),
                ]
                alt = f"{title}: {old.mean():.2f} recorded, {new.mean():.2f} rescored, on average over the steps"
                live_chart(figures.line_chart(lines), key=f"bench-{title}", alt=alt)


def _changes(scores: Sequence[StepScores]) -> None:
    changes = sorted(
        (change for each in scores for change in each.changes), key=lambda change: -abs(change.after - change.before)
    )[:MOST_CHANGES]
    if not changes:
        st.info("No advantage changes: within every group, order and distances stay the same.", icon=":material/info:")
        return
    st.header("Largest changes", anchor=False)
    rows = [
        {
            "trace": links.page("traces", completion=change.id),
            "step": change.step,
            "recorded advantage": change.before,
            "rescored advantage": change.after,
        }
        for change in changes
    ]
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            "trace": st.column_config.LinkColumn(display_text=r"completion=(\d+)"),
            "recorded advantage": st.column_config.NumberColumn(format="%+.2f"),
            "rescored advantage": st.column_config.NumberColumn(format="%+.2f"),
        },
        alt="Completions whose advantage changes most",
    )
