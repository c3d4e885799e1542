"""Navigation over the pages."""

from __future__ import annotations

import streamlit as st

from app import access, invalid_rows, menu
from app.shared import data
from store.db.engine import StoreError

st.set_page_config(page_title="Vision-R1-Zero", page_icon=str(menu.MARK), layout="wide")

groups = menu.pages()
page = st.navigation(groups, position="hidden")

try:
    access.gate()
    data.dashboard_writer()
except StoreError as error:
    data.end_page(error)

try:
    menu.sidebar(groups, page)
    menu.notes(page)
    page.run()
except Exception as error:  # any row written by another program may raise
    if not invalid_rows.explain(error):
        raise
