"""Completions of any run and step as expandable rows, each with its example and a link to the trace."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import streamlit as st

from app import recorded
from app.shared import links
from app.shared.example_parts import truth
from app.shared.trace_text import excerpt, visible
from app.shared.trace_view import show_trace
from store.db.engine import Store
from store.db.rows import RunRow, StoredCompletion, StoredExample
from store.examples import get_examples
from store.notes import Remarks, get_remarks
from store.trace import form_of

QUESTION, PICTURE = 90, 72


def show(store: Store, rows: Sequence[StoredCompletion], runs: Sequence[RunRow]) -> None:
    """Show the rows; those of the same step and example share one image."""
    by_id = {run.id: run for run in runs}
    examples = get_examples(store, {row.example_id for row in rows if row.example_id is not None})
    remarks_by_id = get_remarks(store, "completion", [row.id for row in rows])
    strongest = max((abs(row.advantage) for row in rows if row.advantage), default=None)
    with st.container(gap="small", key="found"):
        for (run_id, _, example_id), together in groupby(rows, lambda row: (row.run_id, row.step, row.example_id)):
            members = list(together)
            run, example = by_id.get(run_id), examples.get(example_id or 0)
            style = form_of(run.style, run.grammar) if run else "cot"
            with st.container(horizontal=True, wrap=False, gap="small"):
                st.html(_picture(example), width=PICTURE)
                with st.container(gap=None, width="stretch"):
                    st.html(_location(members[0], run, example))
                    for row in members:
                        if remarks := _remarks(remarks_by_id.get(row.id, Remarks())):
                            st.html(remarks)
                        show_trace(row, style, key=f"found-{row.id}", strongest=strongest, link=address(row, run))


def _picture(example: StoredExample | None) -> str:
    """Return the example's first image as HTML; empty space if it has none."""
    if example is None or not example.images:
        return f'<div style="width: {PICTURE}px"></div>'
    source, alt = visible(links.image(example.images[0])), visible(example.question)
    return (
        f'<img src="{source}" alt="{alt}" loading="lazy" style="width: {PICTURE}px; height: {PICTURE}px; '
        'object-fit: contain; image-rendering: pixelated; border-radius: 0.3rem">'
    )


def address(row: StoredCompletion, run: RunRow | None) -> str:
    of_run = {"run": run.uid} if run else {}
    return links.page("traces", **of_run, completion=row.id)


def _location(row: StoredCompletion, run: RunRow | None, example: StoredExample | None) -> str:
    """Return run, step and question of a row as inert HTML."""
    name = visible(run.name) if run else "deleted run"
    if run and recorded.is_recorded(run):
        name += " (recorded)"
    parts = [f'<a target="_self" href="{visible(address(row, run))}"><b>{name}</b> · step {row.step}</a>']
    if example:
        truth_text = truth(example)
        parts.append(excerpt(example.question, QUESTION) + (f" ({visible(truth_text)})" if truth_text else ""))
    return f'<div class="tv-place">{" · ".join(parts)}</div>'


def _remarks(remarks: Remarks) -> str:
    """Return users' tags and note on a row as inert HTML; empty if there are none."""
    parts = [f'<span class="tv-tag">{visible(tag)}</span>' for tag in remarks.tags]
    if remarks.note:
        parts.append(f"<i>{excerpt(remarks.note, QUESTION)}</i>")
    return f'<div class="tv-place">{" · ".join(parts)}</div>' if parts else ""
