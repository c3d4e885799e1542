"""The pages' access to the store, with queries cached for a second so that many tabs cost as much as one.

The functions at the end are the store's, without their first argument. Pages write through `writer()` and then call
`forget()` to see what they wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from operator import attrgetter
from typing import Any, Concatenate, ParamSpec, TypeVar

import streamlit as st

from app import access
from store import (
    contents,
    datasets,
    events,
    experiments,
    jobs,
    metrics,
    rollups,
    runs,
    summaries,
    views,
)
from store.completions import find, rows
from store.db.engine import Store, StoreError, database_url, open_store
from store.db.rows import Band, RunRow
from store.evaluations import predictions, records
from store.surroundings import code, machine

SECONDS = 1.0
SECONDS_OF_ENDED = 60.0
"""Seconds for which curves of ended runs are cached: only an import could change them."""
SECONDS_OF_CONTENTS = 5.0
"""Seconds for which a run's contents are cached: a live run gains a new kind of data once, not every second."""
P = ParamSpec("P")
R = TypeVar("R")
Query = TypeVar("Query", bound=Callable[..., Any])
_cached_queries: list[Any] = []


@st.cache_resource(max_entries=8, show_spinner=False)
def _open(url: str, readonly: bool) -> Store:
    return open_store(url, readonly=readonly)


def writer() -> Store:
    """Return the store for user actions. Raises StoreError for a viewer who may only read."""
    access.require_write()
    return dashboard_writer()


def dashboard_writer() -> Store:
    """Return the store for the dashboard's own writes, for any viewer; create the database. Raises StoreError."""
    store = _open(database_url(), readonly=False)
    store.check_file()
    return store


def reader() -> Store:
    """Return a read-only store; stop the page, or its refreshing fragment, for viewers who may not read.

    Also end the script if its tab has been closed or has requested something else. Raises StoreError.
    """
    end_if_abandoned()
    access.gate()
    store = _open(database_url(), readonly=True)
    try:
        store.check_file()
    except StoreError as error:
        end_page(error)
    return store


def end_if_abandoned() -> None:
    """Let Streamlit end a script whose result is no longer wanted: call it in loops that draw nothing."""
    st.session_state.get("any")  # Streamlit checks for this at each access to the session state


def end_page(error: StoreError) -> None:
    """Stop the page, or its refreshing fragment, and show the error."""
    st.error("The database is not usable.")
    st.text(str(error))
    st.stop()


def _cached(query: Callable[Concatenate[Store, P], R], seconds: float = SECONDS) -> Callable[P, R]:
    """Return `query` on the reader's store, cached for `seconds`; `forget` clears the cache."""
    decorate: Any = st.cache_data(
        ttl=seconds, max_entries=64, show_spinner=False, hash_funcs={Store: attrgetter("url")}
    )
    cached_query = decorate(query)
    _cached_queries.append(cached_query)

    @wraps(query)
    def run_query(*args: P.args, **kwargs: P.kwargs) -> R:
        answer: R = cached_query(reader(), *args, **kwargs)
        return answer

    return run_query


def cache_by_arguments(entries: int) -> Callable[[Query], Query]:
    """Cache a query without a time limit: its arguments must identify the state of what it reads."""
    decorate: Any = st.cache_data(max_entries=entries, show_spinner=False, hash_funcs={Store: attrgetter("url")})

    def cache(query: Query) -> Query:
        cached_query: Query = decorate(query)
        return cached_query

    return cache


def forget() -> None:
    """Clear the caches so that the next reads see the latest writes."""
    for query in _cached_queries:
        query.clear()


list_runs = _cached(runs.list_runs)


list_run_heads = _cached(runs.list_run_heads)


def list_sound_runs() -> list[RunRow]:
    """Return the heads of the runs that can be shown; only the Runs page names the broken ones."""
    return [run for run in list_run_heads() if run.broken is None]


def get_row(run_id: int) -> RunRow | None:
    """Return a run as listed on the Runs page, pace included; None if it no longer exists."""
    return next(iter(list_runs(ids=(run_id,))), None)


get_runs = _cached(runs.get_runs)
get_run = _cached(runs.get_run)
list_jobs = _cached(jobs.list_jobs)
job_lengths = _cached(jobs.job_lengths)
list_metric_names = _cached(metrics.list_metric_names)
read_series = _cached(metrics.read_series)
read_ends = _cached(metrics.read_ends)
read_clock = _cached(metrics.read_clock)
read_rollups = _cached(rollups.read_rollups)


def _ended_rollups(
    store: Store, run_ids: tuple[int, ...], name: str, *, lo: int | None = None, hi: int | None = None, points: int
) -> dict[int, Band]:
    """Read roll-ups with a longer cache time, which needs a function of its own: Streamlit caches per function."""
    return rollups.read_rollups(store, run_ids, name, lo=lo, hi=hi, points=points)


read_ended_rollups = _cached(_ended_rollups, SECONDS_OF_ENDED)
read_contents = _cached(contents.read_contents, SECONDS_OF_CONTENTS)
read_summary = _cached(summaries.read_summary)
read_clocks = _cached(summaries.read_clocks)
list_recorded = _cached(summaries.list_recorded)
read_running_total = _cached(metrics.read_running_total)
get_step_bounds = _cached(rows.get_step_bounds)
list_completions = _cached(rows.list_completions)
list_groups = _cached(rows.list_groups)
list_evaluations = _cached(records.list_evaluations)
evaluations_by_run = _cached(records.evaluations_by_run)
list_evaluated = _cached(records.list_evaluated)
list_configurations = _cached(runs.list_configurations)
read_code = _cached(code.read_code)
read_machine = _cached(machine.read_machine)
list_views = _cached(views.list_views)
list_events = _cached(events.list_events)
list_checkpoints = _cached(events.list_checkpoints)
checkpoints_by_run = _cached(events.checkpoints_by_run)
list_experiments = _cached(experiments.list_experiments)
read_scores = _cached(predictions.read_scores)
list_indexes = _cached(datasets.list_indexes)
list_splits = _cached(datasets.list_splits)
read_histogram = _cached(datasets.read_histogram)
count_found = _cached(find.count_found)
