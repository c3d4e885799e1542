"""Actions on all results of a search: download, train on them, tag them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlencode

import streamlit as st

from app.shared import format, intents
from app.shared.finding import Asked
from store.db.engine import StoreError
from store.db.rows import RunRow
from store.notes import LONGEST_TAG


def show(asked: Asked, query: Mapping[str, str], runs: list[RunRow]) -> None:
    """Show the buttons for all results of `asked`; `query` is the same search as URL parameters."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.link_button(
            "Export as JSONL",
            f"api/completions.jsonl?{urlencode(query)}",
            icon=":material/download:",
            help="All results, one per line, with rewards, trace fields and image hashes.",
        )
        if st.button(
            "Train on results",
            icon=":material/model_training:",
            help="Opens the launch form for SFT on the right, well-formed traces among all results.",
        ):
            train(asked, runs)
        with (
            st.popover("Tag", icon=":material/sell:", help="Adds a tag to all results."),
            st.form("find-tag", border=False, clear_on_submit=True),
        ):
            name = st.text_input("Tag", max_chars=LONGEST_TAG)
            if st.form_submit_button("Tag all results"):
                tag(asked, name)


def tag(asked: Asked, name: str) -> None:
    if done := attempt(lambda: intents.tag_found(asked, name)):
        st.toast(done)


def train(asked: Asked, runs: list[RunRow]) -> None:
    with st.spinner("Exporting traces and images"):
        folder = attempt(lambda: intents.dataset_of(asked))
    if folder:
        source = next((run.uid for run in runs if run.id == asked.wanted.run_id), "")
        st.switch_page("../pages/launch.py", query_params={"folder": folder, **({"clone": source} if source else {})})


def attempt(intent: Callable[[], str]) -> str | None:
    """Return the intent's result; show its error and return None if it fails."""
    try:
        return intent()
    except StoreError as error:
        st.error(format.literal(str(error)), icon=":material/error:")
        return None
