"""The texts in a selected area of the map, and each run's nearest texts to one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from app.drift import projection
from app.drift.curves import Drift
from app.shared import format
from app.shared.trace_text import MOST_SHOWN, highlighted
from store.db.engine import Store
from store.db.rows import RunRow
from store.evaluations.texts import Ints
from store.examples import get_examples

TRACES_PAGE = "../pages/traces.py"
MOST_TEXTS = 20
NEIGHBOURS = 3
"""Number of nearest texts per run."""
NEAR = "drift.near"
"""Session key for the text whose neighbours are shown."""


def selected_texts(store: Store, runs: Sequence[RunRow], drift: Drift, rows: Ints) -> None:
    """Show the distinct texts of the selected answers, most frequent first."""
    places, times = np.unique(drift.text_index[rows], return_counts=True)
    order = places[np.lexsort((places, -times))]
    more = f"; showing the {MOST_TEXTS} most frequent" if len(order) > MOST_TEXTS else ""
    texts = format.pluralize(len(order), "distinct text")
    st.markdown(f"**{format.pluralize(len(rows), 'answer')} selected, {texts}**{more}")
    for place in order[:MOST_TEXTS].tolist():
        text_rows = rows[drift.text_index[rows] == place]
        with st.container(border=True, gap="xsmall", key=f"drift-text-{place}"):
            _show_text(runs, drift, place, text_rows)
            if st.session_state.get(NEAR) == drift.texts[place]:
                _neighbours(store, runs, drift, place)
            else:
                text = drift.texts[place]
                st.button(
                    "Nearest in each run",
                    key=f"near-{place}",
                    icon=":material/hub:",
                    type="tertiary",
                    on_click=lambda text=text: st.session_state.update({NEAR: text}),
                )


def _show_text(runs: Sequence[RunRow], drift: Drift, place: int, rows: Ints) -> None:
    """Show a text, the runs and steps that produced it, and a link to its latest trace in each run."""
    _plain(drift.texts[place])
    with st.container(horizontal=True, gap="small"):
        for run in runs:
            run_rows = rows[drift.answers.run_id[rows] == run.id]
            if len(run_rows):
                _link(run, drift, run_rows)


def _plain(text: str) -> None:
    cut = "…" if len(text) > MOST_SHOWN else ""
    st.html(f'<div style="white-space: pre-wrap">{highlighted(text[:MOST_SHOWN])}{cut}</div>')


def _link(run: RunRow, drift: Drift, rows: Ints) -> None:
    answers, last = drift.answers, int(rows[-1])
    steps = np.unique(answers.step[rows])
    when = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]}–{steps[-1]}"
    judged = answers.correct[rows][np.isfinite(answers.correct[rows])]
    right = f"{int(judged.sum())} of {len(judged)} right" if len(judged) else format.pluralize(len(rows), "answer")
    query = {
        "run": run.uid,
        "view": "Predictions",
        "evaluation": str(answers.evaluation_id[last]),
        "prediction": str(answers.prediction_id[last]),
    }
    label = format.literal(f"{run.name}, {when}: {right}")
    st.page_link(TRACES_PAGE, label=label, icon=":material/notes:", query_params=query)


def _neighbours(store: Store, runs: Sequence[RunRow], drift: Drift, place: int) -> None:
    """Show each run's texts with the highest cosine to one text, in all dimensions, and the nearest reference."""
    st.caption("Nearest in each run, by cosine in all dimensions:")
    for run in runs:
        rows = np.flatnonzero(drift.answers.run_id == run.id)
        for other, cosine in projection.nearest(drift.vectors, place, np.unique(drift.text_index[rows]), NEIGHBOURS):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{cosine:.2f}**", width="content")
                with st.container(gap=None):
                    _show_text([run], drift, other, rows[drift.text_index[rows] == other])
    reference = projection.nearest(
        np.concatenate([drift.references, drift.vectors[[place]]]),
        len(drift.references),
        np.arange(len(drift.references)),
        1,
    )
    for example, cosine in reference:
        id = int(drift.example_ids[example])
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{cosine:.2f}**", width="content")
            with st.container(gap=None):
                _plain(get_examples(store, [id])[id].reference or "")
                st.caption("nearest reference")
