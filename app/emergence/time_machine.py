"""The time machine: one held-out example with its greedy answer at every evaluation of a run."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from app.shared import data, data_needs, format, links
from app.shared.example_parts import show_truth, truth
from app.shared.trace_text import highlighted, visible
from app.shared.trace_view import chip
from app.shared.word_diff import STYLE, word_diff
from store.contents import Contents
from store.db.rows import RunDetail, StoredExample, StoredPrediction
from store.evaluations import panel
from store.evaluations.panel import PanelExample
from store.examples import get_examples

PICTURE_WIDTH = 220
"""Pixels."""


@st.fragment
def time_machine(run: RunDetail) -> None:
    """Show the choice of an example and a step, the answer at that step, and what changed since the last evaluation."""
    store = data.reader()
    panel_examples = panel.panel(store, run.id)
    if not panel_examples:
        st.caption("No probes or validations yet: they show how the answers to the same examples change.")
        return
    examples = get_examples(store, [one.example_id for one in panel_examples])
    by_id = {one.example_id: one for one in panel_examples if one.example_id in examples}
    ordered = sorted(by_id, key=lambda id: (abs(by_id[id].right / max(1, by_id[id].judged) - 0.5), id))
    has = data.read_contents(run.id)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Held-out example",
            ordered,
            key="machine.example",
            format_func=lambda id: label(examples[id], by_id[id]),
            help="Examples that were right about half of the time come first, since they show the most change.",
        )
    answers = panel.panel_answers(store, run.id, chosen)
    steps = [answer.step for answer in answers]
    st.html(STYLE)
    st.html(strip(answers))
    step = st.select_slider(
        "Evaluation at step",
        steps,
        value=steps[-1],
        key=f"machine.step.{run.uid}.{chosen}",
        help="Use the left and right arrow keys to move one evaluation.",
    )
    at = steps.index(step)
    show(examples[chosen], answers[at], answers[at - 1] if at else None, has)


def label(example: StoredExample, panel_example: PanelExample) -> str:
    right = (
        f"right {panel_example.right} of {panel_example.judged} times"
        if panel_example.judged
        else f"{format.pluralize(panel_example.answers, 'answer')}, not judged"
    )
    return " · ".join(part for part in (example.question, truth(example), right) if part)


def strip(answers: list[StoredPrediction]) -> str:
    """Return one cell per evaluation with its answer."""
    cells = "".join(
        f'<span role="listitem" title="step {one.step}"><span class="tv-unseen">step {one.step}: </span>'
        f"{chip(one) or 'not judged'}</span>"
        for one in answers
    )
    return f'<div class="tv-answers" role="list" aria-label="Answers by step">{cells}</div>'


def show(example: StoredExample, now: StoredPrediction, before: StoredPrediction | None, has: Contents) -> None:
    with st.container(border=True, horizontal=True, gap="medium"):
        with st.container(width=PICTURE_WIDTH):
            for sha256 in example.images:
                alt = visible(example.question)
                st.html(f'<img class="tv-image" src="{visible(links.image(sha256))}" alt="{alt}">')
        with st.container():
            st.html(f'<div class="tv-question">{highlighted(example.question)}</div>')
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                show_truth(example)
                if answered := chip(now):
                    st.html(answered, width="content")
                st.caption(summary(now, before, has), width="content")
            st.html(word_diff(None if before is None else before.text, now.text))
            if now.rewards:
                st.caption(format.literal(rewards(now.rewards)))


def summary(now: StoredPrediction, before: StoredPrediction | None, has: Contents) -> str:
    parts = [f"step {now.step}"]
    if data_needs.allows(has, data_needs.FORM):
        parts.append("well-formed" if now.wellformed else "malformed")
    if data_needs.allows(has, data_needs.THINKING):
        parts.append(format.pluralize(now.reasoning_steps, "reasoning step"))
    if now.tokens is not None:
        parts.append(format.pluralize(now.tokens, "token"))
    parts.append("first evaluation" if before is None else f"changes since step {before.step} are marked")
    return " · ".join(parts)


def rewards(components: Mapping[str, float | None]) -> str:
    return " · ".join(f"{name} {format.number(value)}" for name, value in components.items())
