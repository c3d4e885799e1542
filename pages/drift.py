"""Drift: compare the style of two to four runs or checkpoints on the questions that all of them answered."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import recorded_view
from app.drift import changes, embedding, layout, map, over_training, reads, side_picker
from app.drift import reading as drift_reading
from app.drift import sides as drift
from app.drift import verdict as drift_verdict
from app.drift.reads import PairedAnswers
from app.drift.sides import Side, Verdict
from app.shared import data, data_needs
from app.shared.trace_view import show_style
from store.db.engine import Store

VIEWS = ("Side by side", "Over training", "Map", "What changed")
RUNS_PAGE = "../pages/runs.py"
LAUNCH_PAGE = "../pages/launch.py"
# Parts of the page that are shown only if every column has what they need.
PARTS: data_needs.Parts = {
    "which is right more often": (data_needs.JUDGED,),
    "similarity to the reference": (data_needs.REFERENCES,),
    "well-formed": (data_needs.FORM,),
    "reasoning steps": (data_needs.THINKING,),
    "tokens": (data_needs.LENGTHS,),
}


@st.cache_data(max_entries=32, show_spinner="Resampling")
def verdict(
    evaluations: tuple[int, ...], encoder: str | None, embedded: int, _reading: PairedAnswers
) -> Verdict | None:
    """Return the verdict on these evaluations' shared answers; the other arguments are the cache key."""
    return drift.verdict(_reading.shared)


def stop_with(text: str) -> None:
    st.info(text, icon=":material/info:")
    st.page_link(RUNS_PAGE, label="Runs", icon=":material/list_alt:")
    st.page_link(LAUNCH_PAGE, label="Launch a run", icon=":material/rocket_launch:")
    st.stop()


def show_largest_differences() -> None:
    """Go to the questions on which the two differ most."""
    drift_reading.go_to(order="drift", phrase="")
    st.session_state["view"] = VIEWS[0]


def body(store: Store, sides: Sequence[Side]) -> None:
    names = drift.names(sides)
    runs = list({side.run.id: side.run for side in sides}.values())
    encoder = embedding.show(store, runs)
    reading = reads.reading(store, sides, encoder)
    evaluations = tuple(side.evaluation.id for side in sides)
    embedded = int((reading.shared.similarity == reading.shared.similarity).sum())
    result = verdict(evaluations, reading.encoder, embedded, reading)
    if result is None:
        stop_with("These checkpoints share no question: choose others, or evaluate them on the same questions.")
        return
    with st.container(border=True, key="drift-verdict"):
        drift_verdict.show(sides, names, result, reading)
        st.button(
            "Read the ten most different answers",
            icon=":material/menu_book:",
            key="drift.ten",
            on_click=show_largest_differences,
        )
    has = [data.read_contents(run.id).at_evaluations for run in runs]
    data_needs.show_missing(data_needs.common_contents(has), PARTS, "Not available for every column")
    view = st.segmented_control("View", VIEWS, default=VIEWS[0], key="view", required=True, bind="query-params")
    if view == VIEWS[0]:
        drift_reading.show(sides, names, reading, encoder)
    elif view == VIEWS[1]:
        over_training.show(store, runs)
    elif view == VIEWS[2]:
        map.show(store, runs)
    else:
        changes.show(evaluations, names, reading)


st.title("Drift")
show_style()
st.html(layout.STYLE)
store = data.reader()
runs = data.list_sound_runs()
if not runs:
    recorded_view.no_runs("the answers of several runs side by side")
sides = side_picker.choose(store, runs)
if len(sides) < 2:
    stop_with(
        "Drift needs two finished evaluations on the same questions: choose two columns, evaluate a run, or record the "
        "evaluations of a script."
    )
body(store, sides)
