"""Datasets: browse the examples that runs train and are evaluated on, and find images that two sets share."""

from __future__ import annotations

from itertools import groupby
from typing import Literal, NamedTuple
from urllib.parse import urlencode

import streamlit as st

from app.datasets import exposure, facts, grid
from app.datasets.example import show_answers, show_example
from app.datasets.index_form import index_form, indexing_progress
from app.datasets.overlap_view import overlap_view
from app.shared import data, format, links, trace_view
from store.db.engine import Store
from store.db.rows import IndexRow, SplitRow, StoredExample
from store.examples import get_examples

VIEWS = ("Examples", "Overlap", "Seen by base models")


class ExposureBadge(NamedTuple):
    icon: str
    color: Literal["orange", "green", "gray"]


SEEN = {
    "yes": ExposureBadge(":material/visibility:", "orange"),
    "no": ExposureBadge(":material/visibility_off:", "green"),
    "unknown": ExposureBadge(":material/question_mark:", "gray"),
}


def address(example: StoredExample) -> str:
    return "?" + urlencode({"dataset": example.dataset, "split": example.split, "example": example.id})


def choose(splits: list[SplitRow]) -> SplitRow:
    """Return the dataset and split in the URL, else the largest."""
    by_name: dict[str, dict[str, SplitRow]] = {}
    for row in sorted(splits, key=lambda row: (row.dataset, *facts.split_order(row.split))):
        by_name.setdefault(row.dataset, {})[row.split] = row
    largest = max(splits, key=lambda row: row.examples)
    requested = st.query_params.get("dataset")
    if requested and requested not in by_name:
        st.warning(f"There is no dataset {format.literal(requested)}; showing another one.", icon=":material/warning:")
    st.session_state["datasets.dataset"] = dataset = requested if requested in by_name else largest.dataset
    dataset_splits = by_name[dataset]
    fallback = max(dataset_splits.values(), key=lambda row: row.examples).split
    st.session_state["datasets.split"] = (
        st.query_params.get("split") if st.query_params.get("split") in dataset_splits else fallback
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.selectbox("Dataset", list(by_name), key="datasets.dataset", on_change=go_to_dataset, width=320)
        split = st.selectbox(
            "Split", list(dataset_splits), key="datasets.split", on_change=go_to_split, width=140, format_func=str
        )
    return dataset_splits[split]


def go_to_dataset() -> None:
    go_to({"dataset": st.session_state["datasets.dataset"]})


def go_to_split() -> None:
    go_to({"dataset": st.session_state["datasets.dataset"], "split": st.session_state["datasets.split"]})


def go_to(place: dict[str, str]) -> None:
    """Go to another dataset, without filters: it has other counts and difficulties."""
    for key in grid.FILTERS:
        st.session_state.pop(key, None)
    links.go(*st.query_params, **place)


def with_empty(splits: list[SplitRow], indexes: list[IndexRow]) -> list[SplitRow]:
    """Return all splits, including those without a usable row."""
    stored = {(row.dataset, row.split) for row in splits}
    indexed = {(row.dataset or row.name, row.split) for row in indexes}
    return [*splits, *(SplitRow(*each, 0) for each in sorted(indexed - stored))]


def index_of(indexes: list[IndexRow], row: SplitRow) -> IndexRow | None:
    return next((each for each in indexes if (each.dataset, each.split) == (row.dataset, row.split)), None)


def examples(store: Store, splits: list[SplitRow], indexes: list[IndexRow]) -> None:
    chosen = choose(splits)
    bars = data.read_histogram(chosen.dataset)
    facts.facts(index_of(indexes, chosen), chosen.examples)
    if not chosen.examples:
        st.info(
            "None of its rows is a usable counting question: see the reasons above.", icon=":material/filter_alt_off:"
        )
        return
    facts.histograms(bars, chosen.split)
    example_filter = grid.filters(bars, chosen.split)
    grid.browser(store, chosen.dataset, chosen.split, example_filter, address)


def one_example(store: Store, number: int | None) -> None:
    examples_by_id = {} if number is None else get_examples(store, [number])
    example = next(iter(examples_by_id.values()), None)
    place = {"dataset": example.dataset, "split": example.split} if example else {}
    st.button("All examples", icon=":material/arrow_back:", key="all_examples", on_click=go_to, args=(place,))
    if example is None:
        st.warning("This example is not in the database.", icon=":material/warning:")
        return
    show_example(example)
    show_answers(store, example)


def known_exposure() -> None:
    st.markdown(
        "A benchmark result means less if the base model has seen the benchmark or its images. This table quotes "
        "public statements about the base models that this project names; nothing here is measured, and it applies to "
        "fine-tuned copies too."
    )
    for model, rows in groupby(exposure.KNOWN, key=lambda row: row.model):
        with st.container(border=True, gap="small"):
            st.markdown(f"**{model}**")
            for row in rows:
                with st.container(horizontal=True, wrap=False, gap="small"):
                    st.badge(row.seen, icon=SEEN[row.seen].icon, color=SEEN[row.seen].color)
                    st.markdown(f"**{row.dataset}**: {row.what} {sources(row.sources)}", width="stretch")


def sources(addresses: tuple[str, ...]) -> str:
    links_markdown = [
        f"[{a.removeprefix('https://')}]({a})" if a.startswith("https://") else f"`{a}`" for a in addresses
    ]
    return f":gray[Source: {' · '.join(links_markdown)}]"


def no_examples() -> None:
    st.info(
        "No examples yet. Index a dataset here, or launch a run: the examples that it uses appear automatically. "
        "The drawn datasets (shapes, board) need no files.",
        icon=":material/dataset:",
    )


st.title("Datasets")
trace_view.show_style()
grid.show_style()
store = data.reader()
if "example" in st.query_params:
    one_example(store, links.number("example"))
    st.stop()
indexes = [row for row in data.list_indexes() if row.indexed_at is not None]
splits = with_empty(data.list_splits(), indexes)
index_form(opened=not splits)
indexing_progress()
view = st.segmented_control("View", VIEWS, default=VIEWS[0], key="view", required=True, bind="query-params")
if view == VIEWS[2]:
    known_exposure()
elif not splits:
    no_examples()
elif view == VIEWS[1]:
    overlap_view(store, indexes, address)
else:
    examples(store, splits, indexes)
