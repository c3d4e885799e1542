"""A grid of images with question and true count; the database filters and pages it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from app.shared import format, links
from app.shared.trace_text import excerpt, visible
from store.datasets import ExampleFilter, count_examples, list_examples
from store.db.engine import Store
from store.db.rows import Bar, StoredExample

STYLE = Path(__file__).with_suffix(".css")
A_PAGE = 24
QUESTION = 140
"""Maximum characters of a question on its card."""
REFERENCES = {"With and without": None, "With a reference": True, "Without a reference": False}
FILTERS = ("datasets.answer", "datasets.difficulty", "datasets.reference", "datasets.words")
"""Session keys of the filters."""
ANY = "any"


def show_style() -> None:
    """Load the cards' styles; call it once on a page that shows cards."""
    st.html(STYLE)


def filters(bars: Sequence[Bar], split: str) -> ExampleFilter:
    """Show the filters, with the values that occur in the split, and return the user's choice."""
    split_bars = [bar for bar in bars if bar.split == split]
    answers = sorted({bar.answer for bar in split_bars if bar.answer is not None})
    levels = sorted({bar.difficulty for bar in split_bars if bar.difficulty is not None})
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        answer = st.selectbox("True count", [ANY, *map(str, answers)], key=FILTERS[0], width=110)
        level = st.selectbox("Difficulty", [ANY, *levels], key=FILTERS[1], width=150)
        reference = st.selectbox("Reference", list(REFERENCES), key=FILTERS[2], width=190)
        search = st.text_input("Search", key=FILTERS[3], placeholder="in questions and keys", width=260)
    return ExampleFilter(
        answer=None if answer == ANY else int(answer),
        difficulty=None if level == ANY else level,
        referenced=REFERENCES[reference],
        contains=search.strip(),
    )


def browser(
    store: Store, dataset: str, split: str, example_filter: ExampleFilter, link: Callable[[StoredExample], str]
) -> None:
    """Show one page of the examples that match the filters."""
    total = count_examples(store, dataset, split, example_filter)
    if not total:
        st.info("No example matches these filters: clear one.", icon=":material/filter_alt_off:")
        return
    pages = -(-total // A_PAGE)
    page = 1
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(format.pluralize(total, "example"), width="content")
        if pages > 1:
            page = st.pagination(pages, key=f"page-{hash((dataset, split, example_filter))}")
    page_examples = list_examples(store, dataset, split, example_filter, limit=A_PAGE, offset=(page - 1) * A_PAGE)
    st.html(f'<div class="eg">{"".join(card(example, link(example)) for example in page_examples)}</div>')


def card(example: StoredExample, link: str) -> str:
    """Return an example as inert HTML that links to its own page."""
    parts = [
        "" if example.answer is None else f'<b class="eg-count" title="True count">{example.answer}</b>',
        f"<span>{visible(example.difficulty)}</span>" if example.difficulty else "",
        "<span>reference</span>" if example.reference else "",
    ]
    return (
        f'<a class="eg-card" target="_self" href="{visible(link)}">{pictures(example)}'
        f'<span class="eg-question">{excerpt(example.question, QUESTION)}</span>'
        f'<span class="eg-facts">{"".join(parts)}</span></a>'
    )


def pictures(example: StoredExample) -> str:
    """Return the first image and the number of further images."""
    if not example.images:
        return '<span class="eg-none">no image</span>'
    more = f'<span class="eg-more">+{len(example.images) - 1}</span>' if len(example.images) > 1 else ""
    return f'<span class="eg-frame">{image(example.images[0])}{more}</span>'


def image(sha256: str) -> str:
    """Return an image that stands beside its question, as inert HTML."""
    return f'<img class="eg-image" loading="lazy" src="{visible(links.image(sha256))}" alt="Image of the question">'
