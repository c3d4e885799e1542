"""Choose a run by one rule on all pages; the choice is in the address, and the session remembers it.

The run in the address is shown, else the one shown before on any page, else a running one that has what the page shows,
else the newest that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from app.shared import format, links, status
from store.db.rows import RunRow

SHOWN = "run_picker.shown"
ALL_RUNS = "All runs"
PLACES = ("step", "group", "completion", "prediction", "evaluation")
"""Parameters of the address that mean a place in one run, and nothing in another."""
HasData = Callable[[RunRow], bool]


def has_recorded(run: RunRow) -> bool:
    """Return whether a run has made a step."""
    return run.step > 0


def has_sampled(run: RunRow) -> bool:
    """Return whether a run has sampled completions while it trained."""
    return run.step > 0 and run.method == "grpo"


def default(runs: Sequence[RunRow], shown: str | None, has_data: HasData) -> RunRow:
    """Return the run to show where the address names none; `runs` come newest first."""
    before = next((run for run in runs if run.uid == shown), None)
    filled = [run for run in runs if has_data(run)]
    at_work = next((run for run in filled if run.status in status.ACTIVE), None)
    return before or at_work or next(iter(filled), runs[0])


def label(run: RunRow) -> str:
    """Return `demo-grpo · GRPO · running · step 40 · 3f2a`."""
    method = status.METHODS.get(run.method, run.method)
    return f"{run.name} · {method} · {status.look(run.status).label} · step {run.step} · {run.uid}"


def pick_run(
    runs: Sequence[RunRow],
    *,
    key: str,
    has_data: HasData = lambda run: True,
    only_with_data: bool = False,
    wanted: str | None = None,
) -> RunRow:
    """Show the choice and return the run; `wanted` replaces the address.

    With `only_with_data`, the others are not offered, and at least one must have some.
    """
    offered = {run.uid: run for run in runs if has_data(run) or not only_with_data}
    wanted = wanted or st.query_params.get("run")
    if wanted and wanted not in offered:
        _warn(wanted, runs)
    before = st.session_state.get(SHOWN)
    shown = wanted if wanted in offered else default(list(offered.values()), before, has_data).uid
    st.session_state[key] = shown
    uid = st.selectbox(
        "Run", list(offered), key=key, format_func=lambda uid: label(offered[uid]), on_change=_go_to, args=(key,)
    )
    st.session_state[SHOWN] = uid
    return offered[uid]


def pick_run_or_all(runs: Sequence[RunRow], *, key: str) -> RunRow | None:
    """Show a choice that includes all runs, returned as None, which is the default."""
    by_uid = {run.uid: run for run in runs}
    wanted = st.query_params.get("run")
    if wanted and wanted not in by_uid:
        st.warning(f"There is no run {format.literal(wanted)}; all are shown instead.", icon=":material/warning:")
    st.session_state[key] = wanted if wanted in by_uid else ALL_RUNS
    uid = st.selectbox(
        "Run",
        [ALL_RUNS, *by_uid],
        key=key,
        format_func=lambda uid: label(by_uid[uid]) if uid in by_uid else uid,
        on_change=_go_to,
        args=(key,),
        width=260,
    )
    return by_uid.get(uid)


def _warn(wanted: str, runs: Sequence[RunRow]) -> None:
    name = format.literal(wanted)
    known = any(run.uid == wanted for run in runs)
    fault = f"Run {name} has nothing to show here" if known else f"There is no run {name}"
    st.warning(f"{fault}; this one is shown instead.", icon=":material/warning:")


def _go_to(key: str) -> None:
    uid = st.session_state[key]
    links.go("run", *PLACES) if uid == ALL_RUNS else links.go(*PLACES, run=uid)
