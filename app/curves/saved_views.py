"""Named views of a page: its URL parameters, saved in the database and shared by all of its users."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

import streamlit as st
from streamlit.runtime.state.session_state_proxy import get_session_state

from app.shared import data, format, intents, run_actions
from app.shared.trace_text import visible

UNSAVED_PARAMETERS = ("run", "tour", "at", "of", "zoom")
"""Temporary parameters, which views do not keep."""


LINK = '<a href="{}" style="color: inherit; overflow-wrap: anywhere">{}</a>'


def show(page: str, extra: Mapping[str, str] | None = None) -> None:
    """Show the menu of a page's views; choosing one replaces the URL.

    `extra` are parameters that a view keeps even if the URL does not have them.
    """
    saved = data.list_views(page)
    label = f"Views ({len(saved)})" if saved else "Views"
    with st.popover(label, icon=":material/bookmarks:", key=f"views_{page}", width="content"):
        for number, (name, address) in enumerate(saved.items()):
            with st.container(horizontal=True, vertical_alignment="center"):
                # Not a Streamlit page link, which does not change the URL of the page that is already open.
                st.html(LINK.format(visible(f"{page if page != 'runs' else ''}?{address}"), visible(name)))
                st.button(
                    "Delete",
                    key=f"delete_view_{page}_{number}",
                    icon=":material/delete:",
                    type="tertiary",
                    help=f"Deletes the view {format.literal(name)} for all users.",
                    on_click=run_actions.attempt,
                    args=(intents.delete_view, page, name),
                )
        if not saved:
            st.caption("Save the current choice of runs, columns, groups and charts, for all users.")
        with st.form(f"save_view_{page}", border=False, clear_on_submit=True):
            name = st.text_input("View name", key=f"view_name_{page}", max_chars=100)
            if st.form_submit_button("Save view", icon=":material/bookmark_add:"):
                run_actions.attempt(intents.save_view, page, name, current_parameters(extra or {}))
                st.rerun()


def current_parameters(extra: Mapping[str, str]) -> str:
    """Return the URL parameters that a view keeps."""
    with get_session_state().query_params() as address:
        parameters = dict(extra) | address.to_dict()
    return urlencode({name: value for name, value in parameters.items() if name not in UNSAVED_PARAMETERS})
