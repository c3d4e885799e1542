"""The texts in a selected area of the map, and each run's nearest texts to one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from app.drift import projection
from app.drift.curves import Drift
from app.shared import format
from app.shared.trace_text import MOST_SHOWN, marked
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


def area(store: Store, runs: Sequence[RunRow], found: Drift, rows: Ints) -> None:
    """Show the distinct texts of the selected answers, most frequent first."""
    places, times = np.unique(found.place[rows], return_counts=True)
    order = places[np.lexsort((places, -times))]
    more = f"; showing the {MOST_TEXTS} most frequent" if len(order) > MOST_TEXTS else ""
    st.markdown(f"**{format.count(len(rows))} answers selected, {format.count(len(order))} distinct texts**{more}")
    for place in order[:MOST_TEXTS].tolist():
        mine = rows[found.place[rows] == place]
        with st.container(border=True, gap="xsmall", key=f"drift-text-{place}"):
            _said(runs, found, place, mine)
            if st.session_state.get(NEAR) == found.texts[place]:
                _neighbours(store, runs, found, place)
            else:
                text = found.texts[place]
                st.button(
                    "Nearest in each run",
                    key=f"near-{place}",
                    icon=":material/hub:",
                    type="tertiary",
                    on_click=lambda text=text: st.session_state.update({NEAR: text}),
                )


def _said(runs: Sequence[RunRow], found: Drift, place: int, rows: Ints) -> None:
    """Show a text, the runs and steps that produced it, and a link to its latest trace in each run."""
    _plain(found.texts[place])
    with st.container(horizontal=True, gap="small"):
        for run in runs:
            mine = rows[found.said.run_id[rows] == run.id]
            if len(mine):
                _link(run, found, mine)


def _plain(text: str) -> None:
    cut = "…" if len(text) > MOST_SHOWN else ""
    st.html(f'<div style="white-space: pre-wrap">{marked(text[:MOST_SHOWN])}{cut}</div>')


def _link(run: RunRow, found: Drift, rows: Ints) -> None:
    said, last = found.said, int(rows[-1])
    steps = np.unique(said.step[rows])
    when = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]}–{steps[-1]}"
    judged = said.correct[rows][np.isfinite(said.correct[rows])]
    right = f"{int(judged.sum())} of {len(judged)} right" if len(judged) else f"{len(rows)} answers"
    query = {
        "run": run.uid,
        "view": "Predictions",
        "evaluation": str(said.evaluation_id[last]),
        "prediction": str(said.prediction_id[last]),
    }
    label = format.literal(f"{run.name}, {when}: {right}")
    st.page_link(TRACES_PAGE, label=label, icon=":material/notes:", query_params=query)


def _neighbours(store: Store, runs: Sequence[RunRow], found: Drift, place: int) -> None:
    """Show each run's texts with the highest cosine to one text, in all dimensions, and the nearest reference."""
    st.caption("Nearest in each run, by cosine in all dimensions:")
    for run in runs:
        rows = np.flatnonzero(found.said.run_id == run.id)
        for other, cosine in projection.nearest(found.vectors, place, np.unique(found.place[rows]), NEIGHBOURS):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{cosine:.2f}**", width="content")
                with st.container(gap=None):
                    _said([run], found, other, rows[found.place[rows] == other])
    reference = projection.nearest(
        np.concatenate([found.references, found.vectors[[place]]]),
        len(found.references),
        np.arange(len(found.references)),
        1,
    )
    for example, cosine in reference:
        id = int(found.example_ids[example])
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{cosine:.2f}**", width="content")
            with st.container(gap=None):
                _plain(get_examples(store, [id])[id].reference or "")
                st.caption("nearest reference")
