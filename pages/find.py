"""Find: search, filter and sort all completions; tag, export or train on the results."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import streamlit as st

from app import recorded_view
from app.find import found_list, selection
from app.shared import data, data_needs, format, keys, links, run_picker, trace_search, trace_view
from app.shared.trace_search import CUT, FORMS, JUDGED, ORDERS, RANGES, Search
from store.completions.find import Place, find_completions, scan_completions
from store.completions.patterns import Matcher
from store.completions.rows import get_completions
from store.db.engine import StoreError
from store.db.rows import RunRow, StoredCompletion
from store.notes import list_trace_tags

A_PAGE = 25
# A text search runs in rounds; the matches so far are shown after each.
SECONDS_OF_THE_FIRST, SECONDS_A_ROUND = 0.3, 1.0
SCOPES = ("Current run", "All runs")
STATE, PLACES = "find.search", "find.places"
WHOLE = ("step", "tokens", "steps")
# What each filter and sort order needs.
FILTERS: data_needs.Parts = {
    "answer is": (data_needs.COMPLETIONS, data_needs.JUDGED),
    "form": (data_needs.COMPLETIONS, data_needs.FORM),
    "reasoning steps": (data_needs.COMPLETIONS, data_needs.THINKING),
    "answer": (data_needs.COMPLETIONS, data_needs.COUNTED),
    "reward": (data_needs.COMPLETIONS, data_needs.REWARDS),
    "tokens": (data_needs.COMPLETIONS, data_needs.LENGTHS),
}
EXPRESSION_HELP = (
    "Search by a case-insensitive regular expression in RE2 syntax: no look-around, no back-references. "
    "`\\w`, `\\d` and `\\b` match ASCII only; `\\pL` is any letter."
)


class Progress(NamedTuple):
    """State of a text search; `wanted` is the number of matches asked for."""

    search: Search
    scan: Iterator[int | None]
    rows: list[StoredCompletion]
    looked_at: int
    wanted: int
    seconds: float
    is_over: bool = False
    problem: str = ""
    """Why it ended early."""

    @property
    def is_working(self) -> bool:
        return not self.is_over and len(self.rows) < self.wanted


def filters(runs: list[RunRow]) -> Search:
    """Show the filter widgets, whose values are in the URL, and return the search."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        run = scope()
        text = st.text_input("Text", key="q", bind="query-params", placeholder="in the completion", width=300)
        is_expression = st.toggle("Regular expression", key="regex", bind="query-params", help=EXPRESSION_HELP)
        sort = st.selectbox("Sort by", list(ORDERS), key="sort", bind="query-params", width=170)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        judged = st.selectbox("Answer is", list(JUDGED), key="judged", bind="query-params", width=120)
        form = st.selectbox("Format", list(FORMS), key="form", bind="query-params", width=140)
        cut = st.selectbox("Token limit", list(CUT), key="cut", bind="query-params", width=130)
        tags = list_trace_tags(data.reader())
        tagged = st.selectbox("Tag", tags, index=None, key="tag", bind="query-params", placeholder="Any", width=150)
    if run is not None:
        data_needs.show_missing(data.read_contents(run.id), FILTERS, "Filters without effect on this run")
    names = ("answer", "example", *(f"{name}_{end}" for name in RANGES for end in ("from", "to")))
    with st.expander("More filters", expanded=any(st.query_params.get(name) for name in names)):
        ranges = range_inputs()
    query = {
        **{name: "" if value is None else str(value) for name, value in ranges.items()},
        "q": text,
        "regex": "true" if is_expression else "",
        "sort": sort,
        "judged": judged,
        "form": form,
        "cut": cut,
        "tag": tagged or "",
    }
    st.session_state["find.query"] = {
        name: value
        for name, value in query.items()
        if value and value != "Any" and (name, value) != ("sort", next(iter(ORDERS)))
    }
    return trace_search.parse_search(query, run.id if run else None)


def scope() -> RunRow | None:
    """Return the run to search, None for all; a URL without a run, or with `all=true`, means all."""
    offered = run_picker.selectable_runs()
    requested = st.query_params.get("run")
    if requested and all(run.uid != requested for run in offered):
        st.warning(f"There is no run {format.literal(requested)}; showing all runs.", icon=":material/warning:")
    run = run_picker.choose(offered)
    is_one = run is not None and run.uid == requested and st.query_params.get("all") != "true"
    st.session_state["find.scope"] = SCOPES[0] if is_one else SCOPES[1]
    st.segmented_control("Search in", SCOPES, key="find.scope", required=True, on_change=go_to_scope)
    return run if is_one else None


def go_to_scope() -> None:
    if st.session_state["find.scope"] == SCOPES[1]:
        links.go(all="true")
    else:
        links.go("all", run=st.session_state[run_picker.KEY])


def range_inputs() -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    with st.grid("auto", min_column_width=210):
        for name, label in RANGES.items():
            with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
                for end in ("from", "to"):
                    key = f"{name}_{end}"
                    values[key] = number_input(f"{label} {end}", key, whole=name in WHOLE)
        with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
            values["answer"] = number_input("Answer", "answer", whole=True)
            values["example"] = number_input(
                "Example", "example", whole=True, help="Number of the example, as in its URL."
            )
    return values


def number_input(label: str, key: str, *, whole: bool, help: str | None = None) -> float | None:
    step: float = 1 if whole else 0.1
    format = None if whole else "%g"
    value: float | None = st.number_input(
        label, value=None, key=key, bind="query-params", step=step, format=format, help=help, min_value=None
    )
    return value


def by_columns(search: Search) -> list[StoredCompletion]:
    """Return one page; the starts of earlier pages are kept so that the user can go back."""
    total = data.count_found(search.filter)
    places = places_of(search)
    page = find_completions(data.reader(), search.filter, search.order, after=places[-1], limit=A_PAGE)
    first = (len(places) - 1) * A_PAGE
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        place = f"{first + 1:,} to {first + len(page.rows):,} of " if page.rows else ""
        st.caption(place + format.pluralize(total, "completion"), width="content")
        with st.container(horizontal=True, width="content"):
            st.button(
                "Back",
                icon=":material/chevron_left:",
                shortcut=keys.shortcut("k"),
                disabled=len(places) == 1,
                on_click=go_back,
            )
            st.button(
                "Next",
                icon=":material/chevron_right:",
                shortcut=keys.shortcut("j"),
                disabled=page.after is None,
                on_click=go_to_place,
                args=(page.after,),
            )
    if not page.rows:
        run_id = search.filter.run_id
        if run_id is not None and not data.read_contents(run_id).sampled.any:
            text = "This run has no training completions: search all runs instead."
        else:
            text = "No completion matches these filters: relax or clear one."
        st.info(text, icon=":material/filter_alt_off:")
    return page.rows


def go_back() -> None:
    st.session_state[PLACES][1].pop()


def go_to_place(place: Place) -> None:
    st.session_state[PLACES][1].append(place)


def places_of(search: Search) -> list[Place | None]:
    places: list[Place | None]
    searched, places = st.session_state.get(PLACES, (None, []))
    if searched != search:
        places = [None]
        st.session_state[PLACES] = (search, places)
    return places


def by_text(search: Search, matches: Matcher, runs: list[RunRow]) -> None:
    """Search in rounds until there are enough matches; show them after each round."""
    progress: Progress | None = st.session_state.get(STATE)
    if progress is None or progress.search != search:
        scan = scan_completions(data.reader(), search.filter, matches, search.order)
        progress = st.session_state[STATE] = Progress(search, scan, [], 0, A_PAGE, 0.0)
    st.fragment(run_every=0.1 if progress.is_working else None)(one_round)(runs)


def one_round(runs: list[RunRow]) -> None:
    progress: Progress = st.session_state[STATE]
    was_working = progress.is_working
    if was_working:
        progress = st.session_state[STATE] = go_on(progress)
    show_progress(progress)
    found_list.show(data.reader(), progress.rows, runs)
    if was_working and not progress.is_working:
        st.rerun()


def go_on(progress: Progress) -> Progress:
    """Search one more round; a regular expression that takes too long ends the search."""
    start = time.monotonic()
    deadline = start + (SECONDS_A_ROUND if progress.looked_at else SECONDS_OF_THE_FIRST)
    missing, looked_at, is_over = progress.wanted - len(progress.rows), progress.looked_at, True
    ids: list[int] = []
    problem = ""
    try:
        for id in progress.scan:
            looked_at += 1
            if id is not None:
                ids.append(id)
            if len(ids) == missing or time.monotonic() > deadline:
                is_over = False
                break
    except StoreError as error:
        problem = str(error)
    rows = progress.rows + get_completions(data.reader(), ids)
    seconds = progress.seconds + time.monotonic() - start
    return progress._replace(rows=rows, looked_at=looked_at, seconds=seconds, is_over=is_over, problem=problem)


def show_progress(progress: Progress) -> None:
    total = max(data.count_found(progress.search.filter), progress.looked_at)
    matches = f"{len(progress.rows):,} {'match' if len(progress.rows) == 1 else 'matches'}"
    summary = f"{matches} in {progress.looked_at:,} of {format.pluralize(total, 'text')}, {progress.seconds:.1f} s"
    if progress.is_over:
        st.caption(summary)
        if progress.problem:
            st.error(format.literal(progress.problem), icon=":material/error:")
        elif not progress.rows:
            st.info("No text matches: try other words, or relax a filter.", icon=":material/search_off:")
        return
    st.progress(progress.looked_at / max(1, total), text=summary)
    if len(progress.rows) >= progress.wanted:
        st.button("Search further", icon=":material/search:", on_click=search_further)


def search_further() -> None:
    progress: Progress = st.session_state[STATE]
    st.session_state[STATE] = progress._replace(wanted=progress.wanted + A_PAGE)


st.title("Find")
trace_view.show_style()
store = data.reader()
runs = data.list_sound_runs()
if not runs:
    recorded_view.no_runs("a search over all completions")
try:
    search = filters(runs)
    matches = search.matcher()
    run = {"run": st.query_params["run"]} if search.filter.run_id is not None else {}
    selection.show(search, st.session_state["find.query"] | run, runs)
    if matches is None:
        found_list.show(store, by_columns(search), runs)
    else:
        by_text(search, matches, runs)
except StoreError as error:
    st.error(format.literal(str(error)), icon=":material/error:")
