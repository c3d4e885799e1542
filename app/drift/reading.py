"""Side by side: one question, its reference, and the answers of two to four sides with their differences.

The URL holds the question, the order and the column that the others are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import streamlit as st

from app.drift import sentence_pairs
from app.drift import sides as drift
from app.drift.figures import colors
from app.drift.layout import address, table
from app.drift.reads import PairedAnswers
from app.drift.sides import Side, form_of_side
from app.drift.words import holds
from app.shared import data, format, keys, links
from app.shared.example_parts import show_truth, truth
from app.shared.figures import GREY
from app.shared.trace_text import excerpt, highlighted, visible
from app.shared.trace_view import chip
from app.shared.word_diff import STYLE as DIFF_STYLE
from app.shared.word_diff import word_diff
from store.db.engine import Store
from store.db.rows import StoredExample, StoredPrediction
from store.embeddings import EncoderRow
from store.evaluations.predictions import list_predictions_to
from store.trace import Form, parse

KEYS = {"d": "drift", "2": "second", "1": "first", "b": "wrong", "m": "similar", "x": "random"}
LISTED = 10
PICTURE_WIDTH = 150
"""Pixels."""
REFERENCE = "Reference"


class ReadingColumn(NamedTuple):
    """The reference (without a row) or a side's answer; `thinking` is the compared text."""

    name: str
    color: str
    thinking: str
    row: StoredPrediction | None = None
    style: Form = "cot"


def labels(names: Sequence[str]) -> dict[str, str]:
    first, second = names[:2]
    return {
        "drift": "Largest drift",
        "second": f"{second} right, {first} wrong",
        "first": f"{first} right, {second} wrong",
        "wrong": "Both wrong",
        "similar": "Most similar",
        "random": "Random",
    }


@st.fragment
def show(sides: Sequence[Side], names: Sequence[str], reading: PairedAnswers, encoder: EncoderRow | None) -> None:
    store = data.reader()
    pressed = keys.pressed(list(KEYS), key="drift.keys")
    if pressed is not None:
        links.go("example", order=KEYS[pressed])
    kind = choose_order(reading, names)
    ids = drift.order(reading.shared, reading.gap, kind, keep=phrase_filter(reading))
    if not ids:
        st.info("There are no such questions: choose another filter.", icon=":material/filter_alt_off:")
        return
    requested_id = links.number("example")
    at = ids.index(requested_id) if requested_id in ids else 0
    move(ids, at)
    one = reading.examples[ids[at]]
    columns = load_columns(store, sides, names, reading, one)
    st.html(DIFF_STYLE)
    with st.container(border=True, key="drift-example"):
        against = question(one, columns)
        compare(columns, against, hide_gone=not st.session_state.get("drift.gone"))
        sentence_pairs.show(store, [(each.name, each.thinking) for each in columns], against, encoder)
    question_list(names, reading, ids, at)


def choose_order(reading: PairedAnswers, names: Sequence[str]) -> str:
    """Show the choice of an order, and return one of ORDERS."""
    order_labels = labels(names)
    counts = {kind: len(drift.order(reading.shared, reading.gap, kind)) for kind in ("second", "first", "wrong")}
    hints = {kind: key for key, kind in KEYS.items()}
    st.session_state["drift.order"] = (
        st.query_params.get("order") if st.query_params.get("order") in order_labels else "drift"
    )
    measure = (
        "difference of their similarities to the reference"
        if drift.has_similarity(reading.shared)
        else "share of words that they do not have in common, since they are not embedded"
    )
    kind = st.segmented_control(
        "Show questions",
        list(order_labels),
        key="drift.order",
        required=True,
        wrap=True,
        format_func=lambda kind: format.literal(order_labels[kind]) + (f": {counts[kind]}" if kind in counts else ""),
        on_change=lambda: go_to(order=st.session_state["drift.order"]),
        help=f"Sorted by {measure}; the random order is always the same. Keys: "
        + ", ".join(f"**{hints[kind]}** {format.literal(order_labels[kind])}" for kind in order_labels)
        + "; **←** and **→**: previous and next question.",
    )
    return str(kind)


def phrase_filter(reading: PairedAnswers) -> np.ndarray | None:
    """Return which questions have the phrase in the URL in an answer of the first two sides; None without a phrase."""
    phrase = st.query_params.get("phrase", "")
    if not phrase:
        return None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(f"Only questions where one of the two says “{visible(phrase[:200])}”", width="content")
        st.button("All questions", icon=":material/close:", type="tertiary", on_click=lambda: go_to(phrase=""))
    return np.array([any(holds(text, phrase) for text in pair) for pair in zip(*reading.shared.texts[:2], strict=True)])


def go_to(**parameters: str) -> None:
    """Change the URL; without a question, go to the first one in the order."""
    empty = (name for name, value in parameters.items() if not value)
    links.go("example", *empty, **{name: value for name, value in parameters.items() if value})


def move(ids: Sequence[int], at: int) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        for key, icon, to, where in (
            ("Left", ":material/chevron_left:", at - 1, "Previous"),
            ("Right", ":material/chevron_right:", at + 1, "Next"),
        ):
            st.button(
                icon,
                key=f"drift.{key}",
                shortcut=key,
                disabled=not 0 <= to < len(ids),
                help=f"{where} question",
                on_click=lambda to: go_to(example=str(ids[to])),
                args=(to,),
            )
        st.caption(f"{at + 1:,} of {len(ids):,}", width="content")


def load_columns(
    store: Store, sides: Sequence[Side], names: Sequence[str], reading: PairedAnswers, one: StoredExample
) -> list[ReadingColumn]:
    """Return the reference, if any, and each side's greedy answer."""
    columns = [ReadingColumn(REFERENCE, GREY, one.reference)] if one.reference else []
    place = int(np.searchsorted(reading.shared.example_id, one.id))
    by_run = colors(list({side.run.id: side.run for side in sides}.values()))
    for i, (side, name) in enumerate(zip(sides, names, strict=True)):
        row = next(row for row in list_predictions_to(store, side.evaluation.id, [one.id]) if not row.sample)
        similarity = reading.shared.similarity[i, place]
        row = replace(row, similarity=None if np.isnan(similarity) else float(similarity))
        columns.append(
            ReadingColumn(name, by_run[side.run.id], reading.shared.texts[i][place], row, form_of_side(side))
        )
    return columns


def question(example: StoredExample, columns: Sequence[ReadingColumn]) -> int:
    """Show image, question and true count; return the index of the column that the others are compared with."""
    with st.container(horizontal=True, gap="medium"):
        with st.container(width=PICTURE_WIDTH):
            alt = visible(example.question)
            for sha256 in example.images:
                st.html(f'<img class="tv-image" src="{visible(links.image(sha256))}" alt="{alt}">')
        with st.container(key="drift-question"):
            st.html(f'<div class="tv-question">{highlighted(example.question)}</div>')
            show_truth(example)
            names = [column.name for column in columns]
            requested = st.query_params.get("against")
            st.session_state["drift.against"] = requested if requested in names else names[0]
            with st.container(horizontal=True, vertical_alignment="bottom"):
                against = st.segmented_control(
                    "Highlight words missing from",
                    names,
                    key="drift.against",
                    required=True,
                    wrap=True,
                    format_func=format.literal,
                    on_change=lambda: links.go(against=st.session_state["drift.against"]),
                )
                st.toggle(
                    "Show removed words", key="drift.gone", help="Also strikes out words that only that column has."
                )
    return names.index(str(against))


def compare(columns: Sequence[ReadingColumn], against: int, *, hide_gone: bool) -> None:
    base = columns[against]
    cards = "".join(card(each, None if each is base else base.thinking, measure=each is base) for each in columns)
    st.html(f'<div class="dr-columns{" dr-new" if hide_gone else ""}">{cards}</div>')


def card(column: ReadingColumn, base: str | None, *, measure: bool) -> str:
    """Return a column as inert HTML; `base` is the text it is compared with."""
    name = f'<div class="dr-name" style="border-color:{column.color}">{visible(column.name)}</div>'
    text = word_diff(base, column.thinking)
    state = " dr-measure" if measure else ""
    return f'<div class="dr-column{state}">{name}{facts(column)}{text}{rule(column)}</div>'


def facts(column: ReadingColumn) -> str:
    row = column.row
    if row is None:
        return f'<div class="dr-facts"><span>{format.pluralize(len(column.thinking.split()), "word")}</span></div>'
    parts = [
        chip(row),
        "" if row.similarity is None else f"<span>similarity <b>{row.similarity:.2f}</b></span>",
        f"<span>{format.pluralize(row.reasoning_steps, 'reasoning step')}</span>" if column.style == "cot" else "",
        f"<span>{format.pluralize(len(column.thinking.split()), 'word')}</span>",
        f"<span>{format.pluralize(row.tokens, 'token')}</span>" if row.tokens is not None else "",
        "" if row.wellformed else '<span class="tv-mark">malformed</span>',
        f'<a target="_self" href="{links.page("traces", prediction=row.id)}" title="Open the trace">#{row.id}</a>',
    ]
    return f'<div class="dr-facts">{"".join(parts)}</div>'


def rule(column: ReadingColumn) -> str:
    """Return why an answer is malformed."""
    violation = parse(column.row.text, column.style).violation if column.row and not column.row.wellformed else None
    return f'<div class="tv-rule">✘ {visible(violation.message)}</div>' if violation else ""


def question_list(names: Sequence[str], reading: PairedAnswers, ids: Sequence[int], at: int) -> None:
    """Show the ten questions around this one, with links."""
    start = at - at % LISTED
    shared = reading.shared
    rows = []
    for number, id in enumerate(ids[start : start + LISTED], start=start):
        place = int(np.searchsorted(shared.example_id, id))
        one = reading.examples[id]
        picture = f'<img src="{visible(links.image(one.images[0]))}" alt="">' if one.images else ""
        link = f'<a target="_self" href="{address(example=str(id))}">{number + 1}</a>'
        sides = [answer_cell(reading, side, place) for side in range(len(names))]
        marker = "▸ " if number == at else ""
        rows.append((marker + link, picture, f"{excerpt(one.question, 80)}{_truth(one)}", *sides))
    with st.container(key="drift-list"):
        st.markdown(f"**Questions {start + 1} to {start + len(rows)}**")
        st.html(table(("No.", "Image", "Question", *names), rows, name="dr-list"))


def _truth(example: StoredExample) -> str:
    text = format.count(example.answer) if example.gold is None and example.answer is not None else truth(example)
    return f" <b>{visible(text)}</b>" if text else ""


def answer_cell(reading: PairedAnswers, side: int, place: int) -> str:
    """Return one side's answer to one question as a table cell."""
    shared = reading.shared
    right, cosine = shared.correct[side, place], shared.similarity[side, place]
    sign = "" if np.isnan(right) else "✔" if right else "✘"
    cosine_text = "" if np.isnan(cosine) else f" {cosine:.2f}"
    return f'<div class="dr-said">{sign}{cosine_text} <small>{excerpt(shared.texts[side][place], 90)}</small></div>'
