"""Completions of any run and step as expandable rows, each with its example and a link to its own page."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.shared import links
from app.shared.example_parts import truth
from app.shared.trace_text import excerpt, visible
from app.shared.trace_view import show_trace
from store.db.engine import Store
from store.db.rows import RunRow, StoredCompletion, StoredExample
from store.examples import get_examples
from store.notes import Remarks, get_remarks
from store.trace import form_of

QUESTION = 90


def show(store: Store, rows: Sequence[StoredCompletion], runs: Sequence[RunRow]) -> None:
    """Show the rows; nothing if there are none."""
    by_id = {run.id: run for run in runs}
    examples = get_examples(store, {row.example_id for row in rows if row.example_id is not None})
    said = get_remarks(store, "completion", [row.id for row in rows])
    strongest = max((abs(row.advantage) for row in rows if row.advantage), default=None)
    with st.container(gap=None, key="found"):
        for row in rows:
            run = by_id.get(row.run_id)
            st.html(_place(row, run, examples.get(row.example_id or 0), said.get(row.id, Remarks())))
            style = form_of(run.style, run.grammar) if run else "cot"
            show_trace(row, style, key=f"found-{row.id}", strongest=strongest, link=address(row, run))


def address(row: StoredCompletion, run: RunRow | None) -> str:
    of_run = {"run": run.uid} if run else {}
    return links.page("traces", **of_run, completion=row.id)


def _place(row: StoredCompletion, run: RunRow | None, example: StoredExample | None, said: Remarks) -> str:
    """Return run, step and question of a row as inert HTML, with people's tags and notes."""
    name = visible(run.name) if run else "a run that is gone"
    parts = [f'<a target="_self" href="{visible(address(row, run))}"><b>{name}</b> · step {row.step}</a>']
    if example:
        known = truth(example)
        parts.append(excerpt(example.question, QUESTION) + (f" ({visible(known)})" if known else ""))
    parts += [f'<span class="tv-tag">{visible(tag)}</span>' for tag in said.tags]
    if said.note:
        parts.append(f"<i>{excerpt(said.note, QUESTION)}</i>")
    return f'<div class="tv-place">{" · ".join(parts)}</div>'
