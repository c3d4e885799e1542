"""The latest output of a run: a group with its best and worst completion, or an answer to a held-out example."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.shared import data, format, status
from app.shared.example_parts import show_truth
from store.db.engine import StoreError
from store.db.rows import RunDetail, StoredCompletion, StoredExample, StoredPrediction
from store.evaluations.predictions import list_predictions
from store.examples import get_examples
from store.media.rows import media_path

IMAGE_WIDTH = 130


def latest_group(run: RunDetail, traces_page: str) -> bool:
    """Show the group; return whether there was one."""
    data.reader()
    bounds = data.get_step_bounds(run.id)
    groups = data.list_groups(run.id, bounds.last) if bounds else []
    if not groups:
        return False
    group = groups[0]
    with st.container(border=True, key="latest_group"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Latest group** · step {group.step}", width="content")
            query = {"run": run.uid, "step": str(group.step)}
            st.page_link(traces_page, label="All groups", icon=":material/psychology:", query_params=query)
        best, worst = extremes(group.completions)
        with st.grid(3, min_column_width=230):
            with st.container():
                show_question(group.example)
            show_answer(f"Best · reward {format.number(best.reward)}", best)
            show_answer(f"Worst · reward {format.number(worst.reward)}", worst)
    return True


def latest_answer(run: RunDetail, traces_page: str) -> bool:
    """Show an answer to a held-out question from the newest evaluation; return whether there was one."""
    store = data.reader()
    started = [each for each in data.list_evaluations(run.id) if each.done]
    if not started:
        return False
    newest = started[-1]
    predictions = list_predictions(store, newest.id, limit=1, offset=newest.done - 1)
    if not predictions:
        return False
    prediction = predictions[0]
    with st.container(border=True, key="latest_answer"):
        with st.container(horizontal=True, vertical_alignment="center"):
            kind = status.EVALUATED.get(newest.kind, newest.kind)
            st.markdown(f"**Held-out answer** · {format.literal(kind)} at step {newest.step}", width="content")
            query = {"run": run.uid, "prediction": str(prediction.id)}
            st.page_link(traces_page, label="Open it", icon=":material/psychology:", query_params=query)
        with st.grid(2, min_column_width=230):
            with st.container():
                show_question(get_examples(store, [prediction.example_id]).get(prediction.example_id))
            show_answer("Greedy" if prediction.sample == 0 else "Sampled", prediction)
    return True


def show_question(example: StoredExample | None) -> None:
    if example is None:
        st.caption("This example was not recorded.")
        return
    for sha256 in example.images:
        try:
            st.image(str(media_path(data.reader(), sha256)), width=IMAGE_WIDTH, alt="Image of the question")
        except StoreError as error:
            st.caption(format.literal(str(error)))
    st.text(example.question)
    show_truth(example)


def extremes(completions: Sequence[StoredCompletion]) -> tuple[StoredCompletion, StoredCompletion]:
    ranked = sorted(completions, key=lambda each: each.reward if each.reward is not None else float("-inf"))
    return ranked[-1], ranked[0]


def show_answer(title: str, trace: StoredCompletion | StoredPrediction) -> None:
    verdict = {True: "right", False: "wrong", None: "not judged"}[trace.correct]
    with st.container():
        st.caption(f"{title} · {verdict}")
        st.code(trace.text or "(empty)", language=None, wrap_lines=True)
