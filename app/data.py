"""What pages read: the store of this process, and its queries remembered for a second so that many tabs cost one.

The functions at the end are those of `store.read`. Pages write through `writer()`, with `store.write` and
`trainer.launch`, and call `forget()` to see what they wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

import streamlit as st

from app import access
from store import read
from store.engine import Store, StoreError, database_url, open_store
from store.rows import RunRow

SECONDS = 1.0
Query = TypeVar("Query", bound=Callable[..., Any])


@st.cache_resource(max_entries=8, show_spinner=False)
def _open(url: str, readonly: bool) -> Store:
    return open_store(url, readonly=readonly)


def writer() -> Store:
    """The store for intents. Raises StoreError for somebody who may only read."""
    access.require_write()
    return keeper()


def keeper() -> Store:
    """The store for what the dashboard itself keeps, whoever looks; creates the database. Raises StoreError."""
    store = _open(database_url(), readonly=False)
    store.check_file()
    return store


def reader() -> Store:
    """A store that cannot change a row, for whoever may look; ends the page, or the part that refreshes, of others.

    Raises StoreError.
    """
    access.gate()
    store = _open(database_url(), readonly=True)
    try:
        store.check_file()
    except StoreError as error:
        end_page(error)
    return store


def end_page(error: StoreError) -> None:
    """Ends the page, or the part that refreshes, with why there is nothing to show."""
    st.error("The database cannot be used.")
    st.text(str(error))
    st.stop()


def _remembered(query: Query) -> Query:
    decorate: Any = st.cache_data(
        ttl=SECONDS, max_entries=64, show_spinner=False, hash_funcs={Store: attrgetter("url")}
    )
    remembered: Query = decorate(query)
    return remembered


def kept(entries: int) -> Callable[[Query], Query]:
    """Remembers a query for good: its arguments must name one state of what it reads."""
    decorate: Any = st.cache_data(max_entries=entries, show_spinner=False, hash_funcs={Store: attrgetter("url")})

    def keep(query: Query) -> Query:
        remembered: Query = decorate(query)
        return remembered

    return keep


def forget() -> None:
    """The next reads see what has just been written."""
    queries: tuple[Any, ...] = (runs, run, jobs, events, indexes, splits, count_found)
    for query in queries:
        query.clear()


runs = _remembered(read.runs)


def sound_runs(store: Store) -> list[RunRow]:
    """Those that can be shown; the Runs page alone names the others."""
    return [run for run in runs(store) if run.broken is None]


run = _remembered(read.run)
jobs = _remembered(read.jobs)
job_lengths = _remembered(read.job_lengths)
metric_names = _remembered(read.metric_names)
series = _remembered(read.series)
ends = _remembered(read.ends)
clock = _remembered(read.clock)
running_total = _remembered(read.running_total)
step_bounds = _remembered(read.step_bounds)
completions = _remembered(read.completions)
groups = _remembered(read.groups)
evaluations = _remembered(read.evaluations)
events = _remembered(read.events)
checkpoints = _remembered(read.checkpoints)
experiments = _remembered(read.experiments)
scores = _remembered(read.scores)
indexes = _remembered(read.indexes)
splits = _remembered(read.splits)
histogram = _remembered(read.histogram)
count_found = _remembered(read.count_found)
