"""Runs: all runs, those that are active, and the queue."""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamlit as st

from app import recorded, recorded_view
from app.curves import address, saved_views, values_view
from app.heartbeats import HEARTBEATS
from app.runs.table import runs_table
from app.shared import data, format, links, run_actions, status
from app.shared.queue.view import queue
from store.db.rows import JobRow, RunRow

LAUNCH_PAGE = "../pages/launch.py"
TOUR_PAGE = "../pages/tour.py"
RUN_PAGE = "../pages/run.py"
CURVES_PAGE = "../pages/curves.py"
COMPARE_PAGE = "../pages/compare.py"
DRIFT_PAGE = "../pages/drift.py"
VIEWS = ("Overview", "Values")
HINTS = {
    VIEWS[0]: "Select rows to act on them; click a name to open its run.",
    VIEWS[1]: "Tick rows to act on them; double-click a name, note or tags to edit them.",
}
FILTERS, SEARCH = ("method", "model", "status"), "runs_search"
NEWEST = 200
"""Number of runs that the table lists by default."""


def welcome() -> None:
    """Explain the project to a user who has no runs yet."""
    with st.container(border=True, key="welcome"):
        st.header("Can a small vision-language model learn to count by reasoning, from reward alone?", anchor=False)
        st.markdown(
            "The model sees an image and a question; GRPO rewards correct, well-formed answers and shows it no "
            "reasoning, so any that appears was elicited by reward.  \n"
            "SFT learns the same task by imitating annotated reasoning. Both are evaluated on the same held-out images."
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            run_actions.demo_button()
            if recorded.recorded_runs(data.list_run_heads()):
                st.page_link(TOUR_PAGE, label="Take the tour", icon=":material/tour:")
            else:
                recorded_view.show_button()
            if st.button("Configure my own run", icon=":material/tune:", key="own_run"):
                st.switch_page(LAUNCH_PAGE)


def now_card(run: RunRow, job: JobRow | None) -> None:
    """Show an active run with its progress, speed and activity, and a button to stop it."""
    look = status.look_now(run, time.time())
    with st.container(border=True, key=f"now_{run.uid}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{format.literal(run.name)}**", width="content")
            st.badge(look.label, icon=look.icon, color=look.color)
            with st.container(horizontal=True, horizontal_alignment="right"):
                if st.button("Open", icon=":material/monitoring:", key=f"open_{run.uid}"):
                    st.switch_page(RUN_PAGE, query_params={"run": run.uid})
                run_actions.stop_button([run], [job.stop_requested if job else 0], key=f"stop_{run.uid}")
        st.progress(status.progress(run) or 0.0)
        st.caption(" · ".join(facts(run)))


def facts(run: RunRow) -> list[str]:
    left = status.seconds_left(run)
    parts = [
        status.steps(run),
        f"{format.seconds(run.seconds_per_step)} per step" if run.seconds_per_step else None,
        f"{format.duration(left)} left" if left is not None else None,
        format.literal(run.activity) if run.activity else None,
        f"on {format.literal(run.host)}" if run.host else None,
        status.silence(run, time.time(), HEARTBEATS.seconds_since_beat(run.job_id, run.host)),
    ]
    return [part for part in parts if part]


def activity(runs: Sequence[RunRow]) -> None:
    open_jobs = data.list_jobs(open_only=True)
    jobs = {job.uid: job for job in open_jobs}
    live = [run for run in runs if run.status in status.ACTIVE]
    for run in live:
        now_card(run, jobs.get(run.job_uid or ""))
    queue()


def filter_runs(runs: Sequence[RunRow]) -> list[RunRow]:
    """Return the runs that match the filters, which the URL and the session keep."""
    labels = {run.id: status.look_now(run, time.time()).label for run in runs}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        methods = choice("Method", [status.METHODS.get(run.method, run.method) for run in runs])
        models = choice("Model", [run.model for run in runs])
        states = choice("Status", list(labels.values()))
        if "find" in st.query_params:
            st.session_state[SEARCH] = st.query_params["find"]
        search = st.text_input(
            "Search",
            key=SEARCH,
            placeholder="name, dataset, tag, id",
            persist_state="session",
            width=220,
            on_change=lambda: keep("find", st.session_state[SEARCH].strip()),
        )
        lists = {name: st.session_state[f"runs_{name}"] for name in FILTERS}
        chosen = {name: address.join(each) for name, each in lists.items() if each} | (
            {"find": search} if search else {}
        )
        saved_views.show("runs", chosen)
    return [
        run
        for run in runs
        if (not methods or status.METHODS.get(run.method, run.method) in methods)
        and (not models or run.model in models)
        and (not states or labels[run.id] in states)
        and all(word in haystack(run) for word in search.lower().split())
    ]


def choice(label: str, values: Sequence[str]) -> list[str]:
    name, key = label.lower(), f"runs_{label.lower()}"
    offered = sorted(set(values))
    if (requested := address.read_list(name)) is not None:
        st.session_state[key] = [each for each in requested if each in offered]
    return st.multiselect(
        label,
        offered,
        key=key,
        placeholder="all",
        persist_state="session",
        width=172,
        on_change=lambda: keep(name, address.join(st.session_state[key]) if st.session_state[key] else ""),
    )


def keep(name: str, value: str) -> None:
    links.go(name, **({name: value} if value else {}))


def haystack(run: RunRow) -> str:
    return " ".join((run.name, run.uid, run.model, run.dataset, run.method, *run.tags)).lower()


def actions(selected: Sequence[RunRow], hint: str) -> None:
    """Show the buttons that act on the selected runs; `hint` is the caption while none is selected."""
    one = selected[0] if len(selected) == 1 else None
    st.caption(f"{len(selected)} selected" if selected else hint)
    with st.container(horizontal=True, vertical_alignment="center"):
        explanation = "Opens the run." if one else "Select one run to open it."
        if st.button("Open", icon=":material/monitoring:", key="open", disabled=one is None, help=explanation) and one:
            st.switch_page(RUN_PAGE, query_params={"run": one.uid})
        explanation = "Overlays the curves of the selected runs."
        if st.button("Curves", icon=":material/ssid_chart:", key="curves", disabled=not selected, help=explanation):
            st.switch_page(CURVES_PAGE, query_params={"runs": ",".join(run.uid for run in selected)})
        explanation = "Compares accuracy, similarity and examples of the selected runs, with intervals."
        if st.button("Compare", icon=":material/leaderboard:", key="compare", disabled=not selected, help=explanation):
            st.switch_page(COMPARE_PAGE, query_params={"runs": ",".join(run.uid for run in selected)})
        explanation = "Shows how the reasoning of the selected runs differs; for one run, from another method's."
        if st.button("Drift", icon=":material/compare:", key="drift", disabled=not selected, help=explanation):
            st.switch_page(DRIFT_PAGE, query_params={"runs": ",".join(run.uid for run in selected)})
        stop_levels = {job.run_id: job.stop_requested for job in data.list_jobs(open_only=True)}
        run_actions.stop_button(selected, [stop_levels.get(run.id, 0) for run in selected], key="stop")
        run_actions.resume_button(selected, key="resume")
        run_actions.clone_button(one, key="clone")
        run_actions.tags_button(selected, key="tags")
        run_actions.delete_button(selected, key="delete")


def broken_warning(run: RunRow) -> None:
    st.warning(
        f"**{format.literal(run.name)}** is broken: {format.literal(run.broken or '')}. Select it below and delete it, "
        f"or run `python -m store delete {format.literal(run.uid)}`.",
        icon=":material/broken_image:",
    )


def list_rows(matching: Sequence[RunRow]) -> list[RunRow]:
    """Return the rows of the table: the newest runs if there are very many, unless the user asks for all."""
    limit = len(matching)
    if len(matching) > NEWEST:
        with st.container(horizontal=True, vertical_alignment="center"):
            note = st.container(width="content")
            if not st.toggle("List all", key="runs_all", persist_state="session"):
                limit = NEWEST
                total = format.count(len(matching))
                note.caption(f"Showing the newest {NEWEST} of {total} runs: filter or search to find others.")
    return data.list_runs(ids=tuple(run.id for run in matching[:limit]))


def overview() -> None:
    runs = data.list_run_heads()
    if all(map(recorded.is_recorded, runs)):
        welcome()
    if not runs:
        recorded_view.rerun_on_first_run()
        return
    activity(data.list_runs(open_only=True))
    matching = filter_runs(runs)
    rows = list_rows(matching) if matching else []
    # Only the evaluations of listed runs have been checked.
    for run in {run.id: run for run in (*runs, *rows) if run.broken is not None}.values():
        broken_warning(run)
    if rows:
        view = st.segmented_control(
            "View",
            VIEWS,
            default=VIEWS[0],
            key="table",
            required=True,
            bind="query-params",
            label_visibility="collapsed",
        )
        sound = [row for row in rows if row.broken is None]
        selected = runs_table(rows) if view == VIEWS[0] else values_view.table(sound)
        if selected is not None:
            actions(selected, HINTS[view])
    else:
        st.caption("No run matches these filters: clear one.")


with st.container(horizontal=True, vertical_alignment="center"):
    st.title("Runs")
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Launch run", type="primary", icon=":material/rocket_launch:", key="launch"):
            st.switch_page(LAUNCH_PAGE)
is_busy = any(run.status in status.OPEN for run in data.list_run_heads())
st.fragment(overview, run_every=2.0 if is_busy else 5.0)()
run_actions.confirm_deletion()
