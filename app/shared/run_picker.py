"""The run in view: one choice for all pages, shown in the sidebar, kept in the address and in every link.

The run in the address is shown, else the one shown before in this tab, else the one most worth seeing.
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
"""The run that a page without a run in its address shows, and the one that links name."""
SEVERAL = "run_in_view.several"
OFFERED = 200
"""The newest runs, which the picker offers beside those at work and the one in the address."""
PLACES = ("step", "zoom", "group", "completion", "prediction", "evaluation")
"""Parameters of the address that mean a place in one run, and nothing in another."""
FORGOTTEN = {"drift": ("sides", "runs", "on", "example", "phrase"), "compare": ("runs", "experiment"), "find": ("all",)}
"""Further parameters that another run in view replaces, by page."""


def has_recorded(run: RunRow) -> bool:
    """Return whether a run has made a step."""
    return run.step > 0


def has_sampled(run: RunRow) -> bool:
    """Return whether a run has trained by a method that samples completions."""
    return run.step > 0 and run.method not in status.SAMPLES_NOTHING


def most_worth_seeing(runs: Sequence[RunRow]) -> RunRow:
    """Return the newest of those with most to see.

    That is, of the runs with data: at work (first those that sample, which have traces to read), finished, ended early,
    recorded by the project; then those without.
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


def offered() -> list[RunRow]:
    """Return the runs that can be chosen, newest first; the session's and the address's are always among them."""
    wanted = (st.query_params.get("run"), st.session_state.get(SHOWN), _owner())
    uids = tuple(sorted({uid for uid in wanted if uid}))
    return [run for run in data.list_run_heads(newest=OFFERED, uids=uids) if run.broken is None]


def _owner() -> str | None:
    run_id = chosen_trace.run_id()
    return data.get_run(run_id).uid if run_id is not None else None


def choose(runs: Sequence[RunRow]) -> RunRow | None:
    """Return the run in view and remember it for the pages and for links to them; None if there is no run at all."""
    if not runs:
        st.session_state.pop(SHOWN, None)
        return None
    by_uid = {run.uid: run for run in runs}
    asked = (_owner(), st.query_params.get("run"), st.session_state.get(SHOWN))
    found = next((by_uid[uid] for uid in asked if uid in by_uid), None) or most_worth_seeing(runs)
    is_chosen = found.uid in asked
    st.session_state[LINKED] = found.uid if is_chosen or has_recorded(found) else None
    if is_chosen or (has_recorded(found) and not recorded.is_recorded(found)):
        st.session_state[SHOWN] = found.uid
    if several := st.query_params.get("runs"):
        st.session_state[SEVERAL] = several
    return found


def in_view(runs: Sequence[RunRow]) -> RunRow:
    """Return the run in view for a page that shows one; warn if the address asks for a run that is gone."""
    wanted = st.query_params.get("run")
    if wanted and all(run.uid != wanted for run in runs):
        name = format.literal(wanted)
        st.warning(f"There is no run {name}; this one is shown instead.", icon=":material/warning:")
    found = choose(runs)
    assert found is not None, "pages say that there are no runs before they ask for one"
    return found


def carried() -> dict[str, str]:
    """Return what links to other pages add to their address: the run in view, and the runs that are compared."""
    kept = {"run": st.session_state.get(LINKED), "runs": st.session_state.get(SEVERAL)}
    return {name: value for name, value in kept.items() if value}


def forget_several() -> None:
    """Let the page choose what it compares."""
    st.session_state.pop(SEVERAL, None)
    links.go("runs")


def labels(runs: Sequence[RunRow]) -> Mapping[str, str]:
    """Return `demo-grpo · GRPO · running` by uid, or `· recorded`; runs of equal names are told apart by their uid."""
    names = Counter(run.name for run in runs)
    return {run.uid: label(run) if names[run.name] == 1 else f"{label(run)} · {run.uid}" for run in runs}


def label(run: RunRow) -> str:
    state = "recorded" if recorded.is_recorded(run) else status.look(run.status).label
    return f"{run.name} · {status.METHODS.get(run.method, run.method)} · {state}"


def show(runs: Sequence[RunRow], chosen: RunRow, page: str) -> None:
    """Show the choice of the run in view."""
    named = labels(runs)
    st.session_state[KEY] = chosen.uid
    st.selectbox("Run in view", list(named), key=KEY, format_func=named.__getitem__, on_change=_go_to, args=(page,))
    if len(runs) >= OFFERED:
        st.caption(f"The newest {OFFERED} runs are offered: open an older one on the Runs page.")


def _go_to(page: str) -> None:
    st.session_state.pop(SEVERAL, None)
    links.go(*PLACES, *FORGOTTEN.get(page, ()), run=st.session_state[KEY])
