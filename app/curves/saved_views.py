"""Views of a page under names: what its address keeps, saved in the database and shared by all who use it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

import streamlit as st
from streamlit.runtime.state.session_state_proxy import get_session_state

from app.shared import data, format, intents, run_actions
from app.shared.trace_text import visible

NOT_KEPT = ("run", "tour", "at", "of", "zoom")
"""Parameters of the moment, which no view keeps."""


LINK = '<a href="{}" style="color: inherit; overflow-wrap: anywhere">{}</a>'


def show(page: str, also: Mapping[str, str] | None = None) -> None:
    """Show the menu of views of a page; choosing one replaces the address.

    `also` are parameters that a view keeps even where the address has forgotten them.
    """
    saved = data.list_views(page)
    label = f"Views ({len(saved)})" if saved else "Views"
    with st.popover(label, icon=":material/bookmarks:", key=f"views_{page}", width="content"):
        for number, (name, address) in enumerate(saved.items()):
            with st.container(horizontal=True, vertical_alignment="center"):
                # Not a link of Streamlit's: to the page that is open, it leaves the address as it is.
                st.html(LINK.format(visible(f"{page if page != 'runs' else ''}?{address}"), visible(name)))
                st.button(
                    "Delete",
                    key=f"delete_view_{page}_{number}",
                    icon=":material/delete:",
                    type="tertiary",
                    help=f"Delete the view {format.literal(name)} for everybody.",
                    on_click=run_actions.attempt,
                    args=(intents.delete_view, page, name),
                )
        if not saved:
            st.caption("A view keeps the runs, columns, groups and charts that are chosen now, for everybody here.")
        with st.form(f"save_view_{page}", border=False, clear_on_submit=True):
            name = st.text_input("Name of this view", key=f"view_name_{page}", max_chars=100)
            if st.form_submit_button("Save view", icon=":material/bookmark_add:"):
                run_actions.attempt(intents.save_view, page, name, address_now(also or {}))
                st.rerun()


def address_now(also: Mapping[str, str]) -> str:
    """Return the parameters of the address that a view keeps."""
    with get_session_state().query_params() as address:
        kept = dict(also) | address.to_dict()
    return urlencode({name: value for name, value in kept.items() if name not in NOT_KEPT})
