"""Actions on all results of a search: download, train on them, tag them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlencode

import streamlit as st

from app.shared import format, intents
from app.shared.trace_search import Search
from store.db.engine import StoreError
from store.db.rows import RunRow
from store.notes import LONGEST_TAG


def show(search: Search, query: Mapping[str, str], runs: list[RunRow]) -> None:
    """Show the buttons for all results of `search`; `query` is the same search as URL parameters."""
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
            train(search, runs)
        with (
            st.popover("Tag", icon=":material/sell:", help="Adds a tag to all results."),
            st.form("find-tag", border=False, clear_on_submit=True),
        ):
            name = st.text_input("Tag", max_chars=LONGEST_TAG)
            if st.form_submit_button("Tag all results"):
                tag(search, name)


def tag(search: Search, name: str) -> None:
    if done := attempt(lambda: intents.tag_found(search, name)):
        st.toast(done)


def train(search: Search, runs: list[RunRow]) -> None:
    with st.spinner("Exporting traces and images"):
        folder = attempt(lambda: intents.dataset_of(search))
    if folder:
        source = next((run.uid for run in runs if run.id == search.filter.run_id), "")
        st.switch_page("../pages/launch.py", query_params={"folder": folder, **({"clone": source} if source else {})})


def attempt(intent: Callable[[], str]) -> str | None:
    """Return the intent's result; show its error and return None if it fails."""
    try:
        return intent()
    except StoreError as error:
        st.error(format.literal(str(error)), icon=":material/error:")
        return None
