"""Index a dataset from the browser: the form that starts it, its progress, and its errors."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.shared import data, format, intents
from app.shared.fields import sentence
from app.shared.run_actions import attempt
from store.db.rows import IndexRow
from trainer.launch.indexing import DEFAULT_LIMIT
from trainer.spec.config import DATASETS, FOLDER_DATASETS

SPLITS = ("train", "val", "test")
MOST = 200_000
_SEEN = "datasets.indexing_progress"


def index_form(*, opened: bool) -> None:
    """Show a form that starts indexing in a separate process; draw it before the parts that it changes."""
    with (
        st.expander("Index a dataset", icon=":material/playlist_add:", expanded=opened, key="index"),
        st.form("index_form", border=False),
    ):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            dataset = st.selectbox("Dataset", DATASETS, key="index.dataset", width=190)
            folder = st.text_input(
                "Folder",
                key="index.folder",
                placeholder=f"needed for {', '.join(FOLDER_DATASETS)}",
                width=420,
                help="On the dashboard's machine. Leave it empty for drawn datasets, and for datasets from the hub, "
                "which are downloaded.",
            )
            split = st.selectbox("Split", SPLITS, key="index.split", width=110)
            limit = st.number_input(
                "Usable questions",
                1,
                MOST,
                DEFAULT_LIMIT,
                key="index.limit",
                width=160,
                help="Number of usable questions to index, counted from the first.",
            )
            is_sent = st.form_submit_button("Index", type="primary", icon=":material/play_arrow:")
        st.caption(
            "Reads the split, stores usable questions with their images, counts skipped rows by reason, and hashes "
            "images to find them in other datasets. It continues when the browser is closed."
        )
    if is_sent:
        attempt(intents.index, dataset, folder, split, int(limit))


@st.fragment(run_every=2.0)
def indexing_progress() -> None:
    """Show running and failed indexing; rerun the page when one ends."""
    rows = data.list_indexes()
    working = [row.id for row in rows if row.state in ("starting", "running")]
    if set(st.session_state.get(_SEEN, working)) - set(working):
        st.session_state[_SEEN] = working
        st.rerun(scope="app")
    st.session_state[_SEEN] = working
    for row in rows:
        if row.id in working:
            st.progress(
                min(1.0, row.done / row.limit),
                f"Indexing {format.literal(title(row))}: {format.count(row.done)} of at most {format.count(row.limit)}",
            )
        elif row.state == "failed":
            _failed(row)


def title(row: IndexRow) -> str:
    """Return the name of the dataset with its split and folder."""
    folder = f" in {Path(row.path).name}" if row.path else ""
    return f"{row.dataset or row.name} ({row.split}){folder}"


def _failed(row: IndexRow) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        fault = sentence(f"Indexing {title(row)} failed. {row.error}")
        st.error(format.literal(fault), icon=":material/error:", width="stretch")
        if st.button("Dismiss", key=f"dismiss_{row.id}"):
            attempt(intents.dismiss, row)
            st.rerun(scope="app")
