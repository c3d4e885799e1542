"""An example with its traces: image, question and true count beside the rows.

Used for the groups of a training step and for the predictions of an evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import streamlit as st

from app.shared import format, links
from app.shared.example_parts import show_rest, show_truth
from app.shared.trace_text import highlighted, visible
from app.shared.trace_view import Row, show_trace, summarize
from app.traces.group_compare import side_by_side
from store.completions.summary import is_dead
from store.db.rows import StoredCompletion, StoredExample
from store.trace import Form

SHOWN = ("All", "Right", "Wrong", "Malformed", "Dead groups")
ORDERS: dict[str, Callable[[Row], float]] = {
    "Reward": lambda row: -math.inf if row.reward is None else row.reward,
    "Reasoning steps": lambda row: row.reasoning_steps,
    "Length": lambda row: row.tokens or len(row.text),
    "As sampled": lambda row: -(row.index if isinstance(row, StoredCompletion) else row.sample),
}
"""Sort keys of rows, largest first."""
DEAD_HELP = "All rewards are equal, so every advantage is zero and the model learns nothing from this group."
UNKNOWN_HELP = "These completions share a prompt, but which of them formed a group was not recorded."
PICTURE_WIDTH = 184
"""Pixels."""
NO_ADVANTAGE = 1e-4
"""Maximum rounding error of a dead group's advantages."""
OPEN_AT_MOST = 3
"""Maximum size of a group whose rows are expanded."""


class GroupOptions(NamedTuple):
    """The filter (from SHOWN), the order (from ORDERS), whether all rows are expanded, whether rows are columns."""

    only: str = SHOWN[0]
    order: str = "Reward"
    opened: bool = False
    columns: bool = False


DEFAULT_LOOK = GroupOptions()


class Block(NamedTuple):
    """An example with its rows; `number` is its group in the step, `shown` are the rows that match the filter."""

    number: int | None
    example: StoredExample | None
    rows: Sequence[Row]
    shown: Sequence[Row]


def filters(choices: Sequence[str]) -> GroupOptions:
    """Show the filter widgets, whose values are in the URL."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        only = st.segmented_control(
            "Show", choices, default="All", key="only", required=True, bind="query-params", wrap=True
        )
        order = st.selectbox("Sort by", list(ORDERS), key="order", bind="query-params", width=190)
        columns = st.toggle(
            "Side by side",
            key="columns",
            bind="query-params",
            help="Shows columns, merges identical completions and marks words that differ from the first.",
        )
        opened = st.toggle("Expand all", key="traces.open", help="Shows the thinking of every row.", disabled=columns)
    return GroupOptions(str(only), str(order), opened, columns)


def nothing_left(only: str, where: str) -> str:
    if only == "All":
        return f"Nothing was recorded for {where}."
    if only == "Dead groups":
        return f"No dead groups in {where}: rewards differ in every group."
    return f"No {only.lower()} answers in {where}: choose All to see the others."


def select(blocks: Sequence[Block], only: str, order: str) -> list[Block]:
    """Return the blocks that match a filter, with sorted rows; unknown values leave everything as sampled."""
    key = ORDERS.get(order, ORDERS["As sampled"])
    matching = []
    for block in blocks:
        if only == "Dead groups" and (_is_unknown(block) or not is_dead(block.rows)):
            continue
        matching_rows = sorted((row for row in block.rows if _passes(row, only)), key=key, reverse=True)
        if matching_rows:
            matching.append(block._replace(shown=matching_rows))
    return matching


def _passes(row: Row, only: str) -> bool:
    return {"Right": row.correct is True, "Wrong": row.correct is False, "Malformed": not row.wellformed}.get(
        only, True
    )


def show_block(
    block: Block,
    style: Form,
    *,
    link: Callable[[Row], str],
    chosen: int | None = None,
    look: GroupOptions = DEFAULT_LOOK,
) -> None:
    """Show a bordered card; highlight the trace with the id `chosen`; expand the best and the worst row, or all."""
    advantages = [abs(r.advantage) for r in block.rows if isinstance(r, StoredCompletion) and r.advantage]
    strongest = max((size for size in advantages if size > NO_ADVANTAGE), default=None)
    with st.container(border=True, horizontal=True, gap="medium"):
        with st.container(width=PICTURE_WIDTH):
            _picture(block.example)
        with st.container(key=f"rows-of-{type(block.rows[0]).__name__}-{block.rows[0].id}"):
            _heading(block)
            if look.columns:
                st.html(side_by_side(block.shown, chosen=chosen, strongest=strongest))
                return
            opened = {block.shown[0].id, block.shown[-1].id} if len(block.shown) > OPEN_AT_MOST else None
            with st.container(gap=None):
                for row in block.shown:
                    show_trace(
                        row,
                        style,
                        key=f"trace-{type(row).__name__}-{row.id}",
                        opened=look.opened or opened is None or row.id in opened,
                        chosen=row.id == chosen,
                        strongest=strongest,
                        link=link(row),
                    )


def _heading(block: Block) -> None:
    example, summary = block.example, summarize(block.rows)
    question = highlighted(example.question) if example else "This example was not recorded"
    st.html(f'<div class="tv-question">{question}</div>')
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if example:
            show_truth(example)
        if _is_unknown(block):
            st.badge("group unknown", icon=":material/question_mark:", color="gray", help=UNKNOWN_HELP)
            st.caption(format.pluralize(len(block.rows), "answer"), width="content")
        else:
            st.caption(summary.sentence if len(block.rows) > 1 else "one answer", width="content")
        if summary.malformed and len(block.rows) > 1:
            st.badge(f"{summary.malformed} malformed", color="orange")
        if summary.dead and not _is_unknown(block):
            st.badge(f"dead: {summary.dead}", icon=":material/block:", color="gray", help=DEAD_HELP)
        if len(block.shown) < len(block.rows):
            st.caption(f"{len(block.shown)} of {len(block.rows)} shown", width="content")


def _is_unknown(block: Block) -> bool:
    return block.number is None and isinstance(block.rows[0], StoredCompletion)


def _picture(example: StoredExample | None) -> None:
    if example is None:
        return
    for sha256 in example.images:
        alt = visible(example.question)
        st.html(f'<img class="tv-image" loading="lazy" src="{visible(links.image(sha256))}" alt="{alt}">')
    if example.reference:
        with st.expander("Reference", type="compact"):
            st.html(f'<div class="tv-reference">{highlighted(example.reference)}</div>')
    show_rest(example)
    st.html(f'<div class="tv-name">{visible(example.name)}</div>')
