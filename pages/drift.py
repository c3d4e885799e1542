"""Drift: how do the styles differ? Two to four runs or checkpoints on the questions that all of them answered."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import data, drift, drift_reads
from app.components import (
    drift_changes,
    drift_look,
    drift_map,
    drift_reading,
    drift_sides,
    drift_training,
    drift_verdict,
    embedding_status,
)
from app.components.trace_view import show_style
from app.drift import Side, Verdict
from app.drift_reads import Reading
from store.engine import Store

VIEWS = ("Side by side", "Over training", "Map", "What changed")
RUNS_PAGE = "../pages/runs.py"
LAUNCH_PAGE = "../pages/launch.py"


@st.cache_data(max_entries=32, show_spinner="Resampling")
def verdict(evaluations: tuple[int, ...], encoder: str | None, embedded: int, _reading: Reading) -> Verdict | None:
    """Of the shared answers to these evaluations; similarities are of `encoder`, with so many known."""
    return drift.verdict(_reading.shared)


def nothing(text: str) -> None:
    st.info(text, icon=":material/info:")
    st.page_link(RUNS_PAGE, label="Runs", icon=":material/list_alt:")
    st.page_link(LAUNCH_PAGE, label="Launch a run", icon=":material/rocket_launch:")
    st.stop()


def read_ten() -> None:
    """To the questions on which the two are furthest apart."""
    drift_reading.go_to(order="drift", phrase="")
    st.session_state["view"] = VIEWS[0]


def body(store: Store, sides: Sequence[Side]) -> None:
    names = drift.names(sides)
    runs = list({side.run.id: side.run for side in sides}.values())
    encoder = embedding_status.show(store, runs)
    reading = drift_reads.reading(store, sides, encoder)
    evaluations = tuple(side.evaluation.id for side in sides)
    known = int((reading.shared.similarity == reading.shared.similarity).sum())
    found = verdict(evaluations, reading.encoder, known, reading)
    if found is None:
        nothing("These checkpoints answered no question in common: choose others, or evaluate them on the same ones.")
        return
    with st.container(border=True, key="drift-verdict"):
        drift_verdict.show(sides, names, found, reading)
        st.button(
            "Read the ten that are furthest apart", icon=":material/menu_book:", key="drift.ten", on_click=read_ten
        )
    view = st.segmented_control("View", VIEWS, default=VIEWS[0], key="view", required=True, bind="query-params")
    if view == VIEWS[0]:
        drift_reading.show(sides, names, reading, encoder)
    elif view == VIEWS[1]:
        drift_training.show(store, runs)
    elif view == VIEWS[2]:
        drift_map.show(store, runs)
    else:
        drift_changes.show(evaluations, names, reading)


st.title("Drift")
show_style()
st.html(drift_look.STYLE)
store = data.reader()
runs = data.sound_runs(store)
if not runs:
    nothing("There is no run yet: start the demo or launch one.")
sides = drift_sides.choose(store, runs)
if len(sides) < 2:
    nothing("Two finished evaluations on the same questions are needed: choose two columns, or evaluate a run.")
body(store, sides)
