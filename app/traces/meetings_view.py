"""One example through training: this run's answers at other steps, and those of other runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import streamlit as st

from app.shared import data, links
from app.shared.trace_text import visible
from store.completions.meetings import Meeting, list_meetings, list_predicted_meetings
from store.db.engine import Store


def show(store: Store, example_id: int, run_id: int, step: int) -> None:
    """Show links to a trace at each step with this example; the current step is highlighted."""
    names = {run.id: run.name for run in data.list_run_heads()}
    trained, evaluated = list_meetings(store, example_id), list_predicted_meetings(store, example_id)
    for title, kind, found in (
        ("Trained on this example", "completion", trained),
        ("Evaluated on this example", "prediction", evaluated),
    ):
        own = [each for each in found if each.run_id == run_id]
        others = [each for each in found if each.run_id != run_id and each.run_id in names]
        if own or others:
            summary = f"{title}: {_times(len(own))} in this run, {_times(len(others))} in others"
            with st.expander(summary, expanded=True):
                if own:
                    st.html(strip("this run", own, kind, step))
                for other, each in groupby(others, key=lambda meeting: meeting.run_id):
                    st.html(strip(names[other], list(each), kind))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def strip(name: str, found: Sequence[Meeting], kind: str, now: int | None = None) -> str:
    """Return a line of links as inert HTML, each with its step and the number of right answers."""
    parts = []
    for each in found:
        colour = "tv-right" if 2 * each.right >= each.answers else "tv-wrong"
        shown = " tv-shown" if each.step == now else ""
        title = f"step {each.step}: {each.right} of {each.answers} right"
        address = links.page("traces", **{kind: each.best_id})
        parts.append(
            f'<a class="tv-meeting{shown}" target="_self" href="{address}" title="{title}">'
            f'{each.step}<i class="{colour}">{each.right}/{each.answers}</i></a>'
        )
    return f'<div class="tv-strip"><b>{visible(name)}</b> step {"".join(parts)}</div>'
