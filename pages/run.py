"""Run: live curves, evaluations, configuration, log and events of one run."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app import recorded_view
from app.emergence import story
from app.emergence.notes import findings_line
from app.latest_group import latest_group
from app.report import button
from app.run import charts
from app.run import curves as run_curves
from app.run.charts import Chart, MetricCurve
from app.run.documents import config_tab, events_tab, log_tab
from app.run.evaluations import evaluate_form, evaluations_tab
from app.run.header import run_header
from app.run.headlines import headlines
from app.run.machine import machine_tab
from app.shared import data, data_needs, format, links, run_actions, run_picker, status
from app.shared.live_chart import load_library
from store.db.rows import RunDetail, RunRow

RUNS_PAGE = "../pages/runs.py"
TRACES_PAGE = "../pages/traces.py"
EMERGENCE_PAGE = "../pages/emergence.py"
TABS = ("Curves", "Completions", "Evaluations", "Machine", "Config", "Log", "Events")


def current_state(shown: RunRow) -> tuple[RunDetail, RunRow] | None:
    """Return the run's current state; None if it has been deleted."""
    row = data.get_row(shown.id)
    return (data.get_run(row.id), row) if row and row.uid == shown.uid else None


def head(shown: RunRow, was_live: bool) -> None:
    state = current_state(shown)
    if state is None:
        return
    run, row = state
    run_header(run, row, partial(button.download, key="run_report"))
    if was_live and row.status not in status.OPEN:
        st.rerun()


def curves(shown: RunRow) -> None:
    state = current_state(shown)
    if state is None:
        return
    run, _ = state
    if run.step == 0 and not data.list_metric_names(run.id):
        st.caption("No steps yet: curves appear once the first one is finished.")
        return
    headlines(run)
    findings_place = st.container()
    step = links.step()
    view = run_curves.view(run, step)
    step_bar(run, step)
    outcome = charts.outcome(run.method, list(run.reward_weights))
    optimization = charts.optimization(run.method)
    if data_needs.is_script(run):
        has, names = data.read_contents(run.id), data.list_metric_names(run.id)
        outcome, optimization = (charts.script_charts(has, each, names) for each in (outcome, optimization))
    run_curves.draw(run, outcome, view, on_step=links.set_step)
    latest_group(run, TRACES_PAGE)
    st.header("Optimization", anchor=False)
    run_curves.draw(run, optimization, view, on_step=links.set_step)
    covered = {name for chart in (*outcome, *optimization) for name in chart.metrics}
    other = sorted(set(data.list_metric_names(run.id)) - covered)
    with st.expander(f"Other metrics ({len(other)})", key="other", on_change="rerun") as rest:
        if rest.open:
            chosen = st.multiselect("Metrics", other, key="other_metrics", placeholder="choose metrics to draw")
            run_curves.draw(run, [single_chart(name) for name in chosen], view, on_step=links.set_step)
    with findings_place:  # after the curves, which must not wait for the summary of all completions
        findings(run)


def findings(run: RunDetail) -> None:
    """Show a line that names the findings, with a link to the evidence; nothing without findings."""
    run_story = story.load(run)
    if run_story is None or not run_story.findings:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="findings"):
        st.markdown(f":material/visibility: {findings_line(run_story.findings)}", width="content")
        st.page_link(
            EMERGENCE_PAGE, label="See the evidence", icon=":material/timeline:", query_params={"run": run.uid}
        )


def single_chart(name: str) -> Chart:
    return Chart(f"other {name}", name, "", (MetricCurve(name, name),), log=True)


def step_bar(run: RunDetail, step: int | None) -> None:
    """Show the step of the cursor with a link to its traces."""
    with st.container(horizontal=True, vertical_alignment="center", height=40, border=False):
        if links.zoom() is not None:
            st.button("Zoom out", key="zoom_out", icon=":material/zoom_out_map:", on_click=links.set_zoom, args=(None,))
        if step is None:
            st.caption("Click a curve to set the step cursor. Drag to zoom all charts, double-click to zoom out.")
            return
        st.markdown(f"Cursor at **step {step}**", width="content")
        query = {"run": run.uid, "step": str(step)}
        st.page_link(TRACES_PAGE, label="Open its groups", icon=":material/psychology:", query_params=query)
        st.button("Clear", key="clear_cursor", icon=":material/close:", type="tertiary", on_click=links.clear_step)


def completions_tab(run: RunDetail) -> None:
    bounds = data.get_step_bounds(run.id)
    step = links.step()
    if bounds is None:
        st.caption("This run has no training completions. Its answers to held-out examples are on the Traces page.")
        query = {"run": run.uid}
    else:
        st.caption(
            f"Completions of {format.pluralize(bounds.count, 'step')}, from step {bounds.first} to step {bounds.last}."
        )
        query = {"run": run.uid, "step": str(bounds.last if step is None else step)}
    st.page_link(TRACES_PAGE, label="Open them on the Traces page", icon=":material/psychology:", query_params=query)


runs = run_picker.selectable_runs()
if not runs:
    st.title("Run")
    recorded_view.no_runs("its live curves")
load_library()
chosen = run_picker.current_run(runs)
chosen = data.get_row(chosen.id) or chosen
is_live = chosen.status in status.OPEN
every = min(max(2.0, chosen.seconds_per_step or 0.0), 10.0) if is_live else None
st.fragment(head, run_every=every)(chosen, is_live)
for name, tab in zip(TABS, st.tabs(TABS, key="tab", on_change="rerun", bind="query-params"), strict=True):
    if not tab.open:
        continue
    with tab:
        if name == "Curves":
            st.fragment(curves, run_every=every)(chosen)
        elif name == "Completions":
            completions_tab(data.get_run(chosen.id))
        elif name == "Evaluations":
            if not data_needs.is_script(chosen):
                evaluate_form(data.get_run(chosen.id))
            st.fragment(lambda: evaluations_tab(data.get_run(chosen.id)), run_every=3.0)()
        elif name == "Machine":
            st.fragment(lambda: machine_tab(data.get_run(chosen.id)), run_every=10.0 if is_live else None)()
        elif name == "Config":
            config_tab(data.get_run(chosen.id))
        elif name == "Log":
            st.fragment(lambda: log_tab(data.get_run(chosen.id)), run_every=every)()
        else:
            st.fragment(lambda: events_tab(data.get_run(chosen.id)), run_every=every)()
run_actions.confirm_deletion(then=RUNS_PAGE)
