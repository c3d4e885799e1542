"""The newest group of completions: image, question, the best and the worst answer."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.shared import data, format
from app.shared.example_parts import show_truth
from store.db.engine import StoreError
from store.db.rows import GroupRow, RunDetail, StoredCompletion
from store.media.rows import media_path

IMAGE_WIDTH = 130


def latest_group(run: RunDetail, traces_page: str) -> None:
    """Show the group; nothing for a run without completions."""
    data.reader()
    bounds = data.get_step_bounds(run.id)
    groups = data.list_groups(run.id, bounds.last) if bounds else []
    if not groups:
        return
    group = groups[0]
    with st.container(border=True, key="latest_group"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Latest group** · step {group.step}", width="content")
            query = {"run": run.uid, "step": str(group.step)}
            st.page_link(traces_page, label="All groups", icon=":material/psychology:", query_params=query)
        best, worst = extremes(group.completions)
        with st.grid(3, min_column_width=230):
            with st.container():
                question(group)
            answer("Best", best)
            answer("Worst", worst)


def question(group: GroupRow) -> None:
    example = group.example
    if example is None:
        st.caption("The example of this group is not known.")
        return
    for sha256 in example.images:
        try:
            st.image(str(media_path(data.reader(), sha256)), width=IMAGE_WIDTH)
        except StoreError as error:
            st.caption(format.literal(str(error)))
    st.text(example.question)
    show_truth(example)


def extremes(completions: Sequence[StoredCompletion]) -> tuple[StoredCompletion, StoredCompletion]:
    ranked = sorted(completions, key=lambda each: each.reward if each.reward is not None else float("-inf"))
    return ranked[-1], ranked[0]


def answer(title: str, completion: StoredCompletion) -> None:
    verdict = {True: "right", False: "wrong", None: "not judged"}[completion.correct]
    with st.container():
        st.caption(f"{title} · reward {format.number(completion.reward)} · {verdict}")
        st.code(completion.text or "(empty)", language=None, wrap_lines=True)
