"""Explain errors caused by invalid values in the database, instead of showing a traceback."""

from __future__ import annotations

import logging

import streamlit as st
from streamlit.errors import FragmentHandledException

from app.shared import format
from store import faulty
from store.db.engine import StoreError

log = logging.getLogger(__name__)


def explain(error: Exception) -> bool:
    """Explain the error on the page; return False for an unrelated error, which is then shown unchanged."""
    if isinstance(error, FragmentHandledException):
        return False
    try:
        message = str(error) if isinstance(error, StoreError) else _invalid_row_message()
    except StoreError as another:
        message = str(another)
    if message is None:
        return False
    log.warning("A page could not be shown: %s", message, exc_info=error)
    st.error(format.literal(message), icon=":material/broken_image:")
    return True


def _invalid_row_message() -> str | None:
    # Streamlit warns about cached queries made before its runtime starts, as at the server's start.
    from app.shared import data

    fault = faulty.find(data.reader())
    if fault is None:
        return None
    advice = "" if fault.run is None else f": delete its run on the Runs page, or with `store delete {fault.run}`"
    return f"The database holds an invalid value that cannot be shown here ({fault.words}){advice}."
