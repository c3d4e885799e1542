"""An example with the traces that answer it: image, question and true count beside the rows.

Serves the groups of a training step and the predictions of an evaluation alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import streamlit as st

from app.shared import links
from app.shared.example_parts import show_rest, show_truth
from app.shared.trace_text import marked, visible
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
"""The orders of rows, largest first."""
DEAD_HELP = "Every reward is the same, so every advantage is zero and the group teaches nothing."
UNKNOWN_HELP = "These answers share a prompt; which of them were compared with each other was not recorded."
PICTURE_WIDTH = 184
"""Pixels."""
NO_ADVANTAGE = 1e-4
"""Largest rounding error of the advantages of a dead group."""
OPEN_AT_MOST = 3
"""Largest group whose rows are shown opened."""


class GroupOptions(NamedTuple):
    """The filter (a word of SHOWN), the order (a word of ORDERS), every row opened, rows as columns."""

    only: str = SHOWN[0]
    order: str = "Reward"
    opened: bool = False
    columns: bool = False


DEFAULT_LOOK = GroupOptions()


class Block(NamedTuple):
    """An example with its rows; `number` is its group within the step, `shown` the rows that match the filter."""

    number: int | None
    example: StoredExample | None
    rows: Sequence[Row]
    shown: Sequence[Row]


def filters(shown: Sequence[str]) -> GroupOptions:
    """Show the widgets, whose values are in the address."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        only = st.segmented_control(
            "Show", shown, default="All", key="only", required=True, bind="query-params", wrap=True
        )
        order = st.selectbox("Sort by", list(ORDERS), key="order", bind="query-params", width=190)
        columns = st.toggle(
            "Side by side",
            key="columns",
            bind="query-params",
            help="Columns, identical answers merged; words that differ from the first are marked.",
        )
        opened = st.toggle("Open all", key="traces.open", help="Show the thinking of every row.", disabled=columns)
    return GroupOptions(str(only), str(order), opened, columns)


def nothing_left(only: str, where: str) -> str:
    if only == "All":
        return f"Nothing was recorded for {where}."
    if only == "Dead groups":
        return f"No dead groups in {where}: every group has rewards that differ."
    return f"No {only.lower()} answers in {where}. Choose All to see the others."


def select(blocks: Sequence[Block], only: str, order: str) -> list[Block]:
    """Return the blocks that match a filter, their rows in order; unknown words leave everything as sampled."""
    key = ORDERS.get(order, ORDERS["As sampled"])
    kept = []
    for block in blocks:
        if only == "Dead groups" and (_is_unknown(block) or not is_dead(block.rows)):
            continue
        shown = sorted((row for row in block.rows if _passes(row, only)), key=key, reverse=True)
        if shown:
            kept.append(block._replace(shown=shown))
    return kept


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
    """Show a bordered card; the trace of id `chosen` stands out; the best and the worst are opened, or all."""
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
    question = marked(example.question) if example else "An example that was not recorded"
    st.html(f'<div class="tv-question">{question}</div>')
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if example:
            show_truth(example)
        if _is_unknown(block):
            st.badge("group unknown", icon=":material/question_mark:", color="gray", help=UNKNOWN_HELP)
            st.caption(f"{len(block.rows)} answers", width="content")
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
            st.html(f'<div class="tv-reference">{marked(example.reference)}</div>')
    show_rest(example)
    st.html(f'<div class="tv-name">{visible(example.name)}</div>')
