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
    for title, kind, meetings in (
        ("Trained on this example", "completion", trained),
        ("Evaluated on this example", "prediction", evaluated),
    ):
        own_meetings = [each for each in meetings if each.run_id == run_id]
        others = [each for each in meetings if each.run_id != run_id and each.run_id in names]
        if own_meetings or others:
            summary = f"{title}: {_times(len(own_meetings))} in this run, {_times(len(others))} in others"
            with st.expander(summary, expanded=True):
                if own_meetings:
                    st.html(strip("this run", own_meetings, kind, step))
                for other, each in groupby(others, key=lambda meeting: meeting.run_id):
                    st.html(strip(names[other], list(each), kind))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def strip(name: str, meetings: Sequence[Meeting], kind: str, now: int | None = None) -> str:
    """Return a line of links as inert HTML, each with its step and the number of right answers."""
    parts = []
    for meeting in meetings:
        colour = "tv-right" if 2 * meeting.right >= meeting.answers else "tv-wrong"
        shown_class = " tv-shown" if meeting.step == now else ""
        title = f"step {meeting.step}: {meeting.right} of {meeting.answers} right"
        address = links.page("traces", **{kind: meeting.best_id})
        parts.append(
            f'<a class="tv-meeting{shown_class}" target="_self" href="{address}" title="{title}">'
            f'{meeting.step}<i class="{colour}">{meeting.right}/{meeting.answers}</i></a>'
        )
    return f'<div class="tv-strip"><b>{visible(name)}</b> step {"".join(parts)}</div>'
