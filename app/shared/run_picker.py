"""The current run: one choice for all pages, shown in the sidebar, kept in the URL and in every link.

It is the run in the URL, else the last one shown in this tab, else the most interesting one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import streamlit as st

from app import chosen_trace, recorded
from app.shared import data, format, links, status
from store.db.rows import RunRow

KEY = "run_in_view"
SHOWN, LINKED = "run_in_view.uid", "run_in_view.linked"
"""Session key of the current run: shown by a page without a run in its URL, and named in links."""
SEVERAL = "run_in_view.several"
OFFERED = 200
"""Number of newest runs in the picker, beside active ones and the one in the URL."""
PLACES = ("step", "zoom", "group", "completion", "prediction", "evaluation")
"""URL parameters that refer to a place in one run, and are dropped for another."""
FORGOTTEN = {"drift": ("sides", "runs", "on", "example", "phrase"), "compare": ("runs", "experiment"), "find": ("all",)}
"""More parameters that are dropped when the current run changes, by page."""


def has_recorded(run: RunRow) -> bool:
    """Return whether a run has completed a step."""
    return run.step > 0


def has_sampled(run: RunRow) -> bool:
    """Return whether a run has trained with a method that samples completions."""
    return run.step > 0 and run.method not in status.SAMPLES_NOTHING


def most_interesting(runs: Sequence[RunRow]) -> RunRow:
    """Return the newest run of the most interesting kind.

    Runs with data come first: active (sampling ones first, since they have traces), finished, ended early, recorded by
    the project; then runs without data.
    """
    return min(runs, key=_rank)


def _rank(run: RunRow) -> tuple[int, bool]:
    if not has_recorded(run):
        return (4 if run.status in status.ACTIVE else 5), False
    if recorded.is_recorded(run):
        return 3, run.method in status.SAMPLES_NOTHING
    if run.status in status.ACTIVE:
        return 0, run.method in status.SAMPLES_NOTHING
    return (1 if run.status in ("finished", None) else 2), False


def selectable_runs() -> list[RunRow]:
    """Return the runs that can be chosen, newest first, always with the session's and the URL's."""
    requested = (st.query_params.get("run"), st.session_state.get(SHOWN), _owner())
    uids = tuple(sorted({uid for uid in requested if uid}))
    return [run for run in data.list_run_heads(newest=OFFERED, uids=uids) if run.broken is None]


def _owner() -> str | None:
    run_id = chosen_trace.run_id()
    return data.get_run(run_id).uid if run_id is not None else None


def choose(runs: Sequence[RunRow]) -> RunRow | None:
    """Return the current run and remember it for pages and links; None if there are no runs."""
    if not runs:
        st.session_state.pop(SHOWN, None)
        return None
    by_uid = {run.uid: run for run in runs}
    requested_uids = (_owner(), st.query_params.get("run"), st.session_state.get(SHOWN))
    current = next((by_uid[uid] for uid in requested_uids if uid in by_uid), None) or most_interesting(runs)
    is_requested = current.uid in requested_uids
    st.session_state[LINKED] = current.uid if is_requested or has_recorded(current) else None
    if is_requested or (has_recorded(current) and not recorded.is_recorded(current)):
        st.session_state[SHOWN] = current.uid
    if several := st.query_params.get("runs"):
        st.session_state[SEVERAL] = several
    return current


def current_run(runs: Sequence[RunRow]) -> RunRow:
    """Return the current run for a page that shows one; warn if the run in the URL no longer exists."""
    requested_uid = st.query_params.get("run")
    if requested_uid and all(run.uid != requested_uid for run in runs):
        name = format.literal(requested_uid)
        st.warning(f"There is no run {name}; showing this one instead.", icon=":material/warning:")
    chosen = choose(runs)
    assert chosen is not None, "pages must handle the case without runs first"
    return chosen


def carried_parameters() -> dict[str, str]:
    """Return the parameters that links to other pages carry: the current run, and the compared runs."""
    parameters = {"run": st.session_state.get(LINKED), "runs": st.session_state.get(SEVERAL)}
    return {name: value for name, value in parameters.items() if value}


def clear_compared() -> None:
    """Clear the choice of compared runs, so that the page chooses."""
    st.session_state.pop(SEVERAL, None)
    links.go("runs")


def labels(runs: Sequence[RunRow]) -> Mapping[str, str]:
    """Return `demo-grpo · GRPO · running` (or `· recorded`) by uid; runs with equal names also get their uid."""
    names = Counter(run.name for run in runs)
    return {run.uid: label(run) if names[run.name] == 1 else f"{label(run)} · {run.uid}" for run in runs}


def label(run: RunRow) -> str:
    state = "recorded" if recorded.is_recorded(run) else status.look(run.status).label
    return f"{run.name} · {status.METHODS.get(run.method, run.method)} · {state}"


def show(runs: Sequence[RunRow], chosen: RunRow, page: str) -> None:
    """Show the choice of the current run."""
    names_by_uid = labels(runs)
    st.session_state[KEY] = chosen.uid
    st.selectbox(
        "Current run", list(names_by_uid), key=KEY, format_func=names_by_uid.__getitem__, on_change=_go_to, args=(page,)
    )
    if len(runs) >= OFFERED:
        st.caption(f"Lists the newest {OFFERED} runs: open an older one from the Runs page.")


def _go_to(page: str) -> None:
    st.session_state.pop(SEVERAL, None)
    links.go(*PLACES, *FORGOTTEN.get(page, ()), run=st.session_state[KEY])
