"""One example, and all answers to it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple
from urllib.parse import urlencode

import streamlit as st

from app.shared import data, format, links, status
from app.shared.example_parts import show_rest, show_truth
from app.shared.trace_text import highlighted, visible
from app.shared.trace_view import Row, show_trace
from store.completions.rows import list_completions
from store.db.engine import Store
from store.db.rows import RunRow, StoredCompletion, StoredExample
from store.evaluations.predictions import list_predictions_of_example
from store.trace import form_of

AT_ONCE = 30
"""Number of answers per kind shown before "Show more"."""
TRACES = "traces"
"""URL of the Traces page."""


class RunAnswer(NamedTuple):
    """An answer with its run."""

    run_id: int
    row: Row


def show_example(example: StoredExample) -> None:
    """Show the images, question, true count and reference."""
    with st.container(border=True, horizontal=True, gap="medium"):
        with st.container(width=240):
            for sha256 in example.images:
                alt = visible(example.question)
                st.html(f'<img class="tv-image" src="{visible(links.image(sha256))}" alt="{alt}">')
            if not example.images:
                st.caption("This example has no image.")
        with st.container():
            st.html(f'<div class="tv-question">{highlighted(example.question)}</div>')
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                show_truth(example)
                if example.difficulty:
                    st.caption(format.literal(example.difficulty), width="content")
            if example.reference:
                st.caption("Reference")
                st.html(f'<div class="tv-reference">{highlighted(example.reference)}</div>')
            show_rest(example)
            st.html(f'<div class="tv-name">{visible(example.name)}</div>')


def show_answers(store: Store, example: StoredExample) -> None:
    """Show completions and predictions of all runs, each with a link to its step or evaluation."""
    runs = {run.id: run for run in data.list_run_heads()}
    st.header("Completions", anchor=False, help="Sampled in training on this example.")
    limit = _wanted("completions", example.id)
    sampled = list_completions(store, None, example_id=example.id, limit=limit + 1)
    _list([RunAnswer(row.run_id, row) for row in sampled], runs, limit, "completions", example.id)
    st.header("Predictions", anchor=False, help="Answers in probes and evaluations; they are not used in training.")
    limit = _wanted("predictions", example.id)
    predicted = list_predictions_of_example(store, example.id, limit=limit + 1)
    _list([RunAnswer(*each) for each in predicted], runs, limit, "predictions", example.id)


def _wanted(kind: str, example_id: int) -> int:
    return int(st.session_state.get(f"shown-{kind}-{example_id}", AT_ONCE))


def _list(answers: Sequence[RunAnswer], runs: dict[int, RunRow], limit: int, kind: str, example_id: int) -> None:
    if not answers:
        st.caption(f"No {kind} for this example.")
    for run_id, members in groupby(answers[:limit], key=lambda answer: answer.run_id):
        if run_id in runs:
            _of_run(runs[run_id], [answer.row for answer in members])
    if len(answers) > limit:
        key = f"shown-{kind}-{example_id}"
        st.button("Show more", key=f"{key}-button", on_click=_more, args=(key, limit + AT_ONCE))


def _more(key: str, limit: int) -> None:
    st.session_state[key] = limit


def _of_run(run: RunRow, rows: Sequence[Row]) -> None:
    style = form_of(run.style, run.grammar)
    right = sum(row.correct is True for row in rows)
    with st.container(border=True, gap=None):
        method = status.METHODS.get(run.method, run.method)
        st.markdown(f"**{format.literal(run.name)}** · {method} · {right} of {len(rows)} right")
        for place, same in groupby(rows, key=where):
            st.caption(format.literal(place))
            for row in same:
                show_trace(row, style, key=f"answer-{type(row).__name__}-{row.id}", link=link(run, row))


def where(row: Row) -> str:
    """Return the step of an answer and, for predictions, the kind of evaluation."""
    return f"step {row.step}" if isinstance(row, StoredCompletion) else f"step {row.step} · {row.kind}"


def link(run: RunRow, row: Row) -> str:
    """Return the URL of an answer on the Traces page."""
    if isinstance(row, StoredCompletion):
        return f"{TRACES}?{urlencode({'run': run.uid, 'step': row.step, 'completion': row.id})}"
    query = {"run": run.uid, "view": "Predictions", "evaluation": row.evaluation_id, "prediction": row.id}
    return f"{TRACES}?{urlencode(query)}"
