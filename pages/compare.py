"""Compare: which run or method is better, and is the difference significant?"""

from __future__ import annotations

import json
from collections.abc import Sequence

import streamlit as st

from app import recorded_view
from app.compare import (
    against,
    budgets,
    equal_cost_view,
    export,
    faithfulness,
    groups,
    progress,
    rewards,
    selection,
    tables,
    views,
)
from app.compare.groups import Member
from app.compare.selection import ComparedRuns
from app.compare.tables import Table
from app.report import button
from app.shared import data, data_needs, format
from store.db.engine import Store
from store.db.rows import EvaluationRow, Scores

STYLE = f"""<style>{export.STYLE}
.duel {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 0.6rem; }}
.duel-card {{ display: flex; gap: 0.6rem; font-size: 0.875rem; border: 1px solid rgba(138, 147, 160, 0.4);
  border-radius: 0.5rem; padding: 0.5rem; }}
.duel-card img {{ width: 5rem; height: 5rem; object-fit: contain; image-rendering: pixelated; }}
</style>"""
LAUNCH_PAGE = "../pages/launch.py"
DRIFT_PAGE = "../pages/drift.py"
SHOWN_KINDS = ("test", "baseline", "thinking")


@st.cache_data(max_entries=32, show_spinner="Resampling")
def make_tables(evaluations: tuple[int, ...], _chosen: ComparedRuns, _store: Store) -> list[Table]:
    """Return the tables of the chosen runs; `evaluations`, which never change once finished, are the cache key."""
    names = groups.benchmarks(_chosen.members)

    def scores(evaluation_id: int) -> Scores:
        return data.read_scores(evaluation_id)

    scripts = [group for group in _chosen.groups if data_needs.is_script(group.first)]
    trained = [group for group in _chosen.groups if group not in scripts]
    always = (tables.style_drift, lambda g, s: tables.generalization(g, names, s), tables.ranks)
    on_request = (
        tables.compare_scripts(scripts, names, scores),
        tables.samples(trained, names, scores),
        tables.faithfulness(trained),
    )
    return [*(make(trained, scores) for make in always if trained), *(table for table in on_request if table.lines)]


@st.cache_data(max_entries=32, show_spinner="Resampling")
def make_gains(evaluations: tuple[int, ...], uid: str, _chosen: ComparedRuns) -> Table:
    """Return how far the group whose first run is `uid` is ahead of every other; cached like `make_tables`."""
    group = next(group for group in _chosen.groups if group.first.uid == uid)
    return against.gains(_chosen.groups, group, groups.benchmarks(_chosen.members), data.read_scores)


def finished(members: Sequence[Member]) -> tuple[int, ...]:
    evaluations = [e for m in members for e in m.evaluations if e.kind in SHOWN_KINDS or groups.is_test(e)]
    return tuple(sorted(each.id for each in evaluations if each.ended_at))


def scripts_left_out(members: Sequence[Member]) -> None:
    """List the scripts that are missing from the tables, and why."""
    needs = (data_needs.EVALUATIONS, data_needs.JUDGED_EVALUATIONS)
    names_by_reason: dict[str, list[str]] = {}
    for run in (member.run for member in members if data_needs.is_script(member.run)):
        for reason in data_needs.missing_parts(data.read_contents(run.id), {run.name: needs}):
            names_by_reason.setdefault(reason, []).append(run.name)
    if names_by_reason:
        reasons = [f"{', '.join(names)} ({reason})" for reason, names in names_by_reason.items()]
        st.caption(format.literal(f"Not compared: {'; '.join(reasons)}."))


def show_tables(tables: Sequence[Table], members: Sequence[Member]) -> None:
    uids = {member.run.id: member.run.uid for member in members}

    def link(evaluation: EvaluationRow) -> str:
        return f"traces?run={uids[evaluation.run_id]}&view=Predictions&evaluation={evaluation.id}"

    for table in tables:
        st.header(format.literal(table.title), anchor=table.key)
        st.html(export.html_table(table, link))


def choose_gains(chosen: ComparedRuns) -> list[Table]:
    """Let one group be chosen, and show how far it is ahead of every other; return that table if there is one."""
    candidates = against.candidates([group for group in chosen.groups if not data_needs.is_script(group.first)])
    by_uid = {group.first.uid: name for name, group in selection.names(candidates).items()}
    if not by_uid:
        return []
    uid = st.selectbox("Against every other", by_uid, key="compare.against", format_func=by_uid.__getitem__, width=320)
    table = make_gains(finished(chosen.members), uid, chosen)
    if not table.lines:
        return []
    show_tables([table], chosen.members)
    return [table]


def downloads(store: Store, compared_tables: Sequence[Table], chosen: ComparedRuns, benchmark: str) -> None:
    """Show the download buttons side by side; each file is built when its button is clicked."""

    def report() -> str:
        figures = [
            ("Accuracy against similarity", views.path_figure(chosen.groups)),
            (f"Accuracy by true count on {benchmark}", views.count_figure(chosen.groups, benchmark)),
            *equal_cost_view.every_budget(store, chosen.groups),
        ]
        facts = json.dumps(budgets.conditions(store, chosen.members, benchmark), indent=1, ensure_ascii=False)
        return export.report(
            "Vision-R1-Zero: comparison", compared_tables, [pair for pair in figures if pair[1]], facts
        )

    files = {
        "Markdown": ("comparison.md", lambda: export.markdown(compared_tables)),
        "LaTeX": ("comparison.tex", lambda: export.latex(compared_tables)),
        "CSV": ("comparison.csv", lambda: export.comma_separated(compared_tables)),
        "HTML report": ("comparison.html", report),
    }
    for label, (name, make) in files.items():
        st.download_button(label, make, name, icon=":material/download:", key=f"export-{label}", on_click="ignore")
    button.download([member.run for member in chosen.members], key="compare_report")


def body(store: Store, chosen: ComparedRuns) -> None:
    names = groups.benchmarks(chosen.members)
    compared_tables = make_tables(finished(chosen.members), chosen, store)
    show_tables(compared_tables, chosen.members)
    compared_tables = [*compared_tables, *choose_gains(chosen)]
    scripts_left_out(chosen.members)
    methods = {group.first.method: group.first.uid for group in reversed(chosen.groups)}
    query = {"runs": ",".join(methods[name] for name in ("sft", "grpo") if name in methods)}
    st.page_link(DRIFT_PAGE, label="See how the styles differ", icon=":material/compare:", query_params=query)
    st.header("Details", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        benchmark = st.selectbox("Benchmark", names, key="compare.benchmark", width=260)
        downloads(store, compared_tables, chosen, benchmark)
    with st.expander(
        "Conditions and budgets", icon=":material/rule:", key="compare.conditions", on_change="rerun"
    ) as rest:
        if rest.open:
            budgets.conditions_table(budgets.conditions(store, chosen.members, benchmark))
            st.markdown("**Configuration differences**")
            budgets.config_table(chosen.groups)
    with st.expander("More metrics", icon=":material/table_rows:"):
        views.figures_table(chosen.groups, benchmark)
    views.charts(chosen.groups, benchmark)
    with st.container(border=True):
        st.markdown("**At equal cost**", help="Validation only, first seed only. Bands are 95 % Wilson intervals.")
        budget = equal_cost_view.show(store, chosen.groups)
    with st.container(border=True):
        st.markdown(
            "**Total reward under one definition**",
            help="Totals are not comparable between runs with different rewards. Here the answers to the probes, which "
            "use the same validation examples for every run, are rescored under the definition you choose.",
        )
        rewards.show(store, chosen.groups, budget)
    faithfulness.show(chosen.groups)
    with st.container(border=True):
        st.markdown("**Answers by true count**")
        views.confusion(store, chosen.groups, benchmark)
    with st.container(border=True):
        st.markdown("**Two checkpoints, example by example**")
        views.compare_examples(store, chosen.groups, benchmark)


st.title("Compare")
st.html(STYLE)
store = data.reader()
runs = data.list_sound_runs()
if not runs:
    recorded_view.no_runs("tables of accuracy and similarity, with intervals")
chosen = selection.choose(runs)
if chosen.left_out:
    st.caption(chosen.left_out)
if chosen.experiment is not None:
    is_open = progress.is_open(chosen.experiment)
    st.fragment(progress.progress, run_every=3.0 if is_open else None)(chosen.experiment, is_open)
if not groups.benchmarks(chosen.members):
    st.info(selection.nothing_message(chosen), icon=":material/info:")
    scripts_left_out(chosen.members)
    st.page_link(LAUNCH_PAGE, label="Launch an experiment", icon=":material/rocket_launch:")
    st.stop()
body(store, chosen)
st.caption("Reported rows quote another project's results; they were not measured here.")
