"""Compare: which one wins, and is that sure?"""

from __future__ import annotations

import json
from collections.abc import Sequence

import streamlit as st

from app import comparison, data, export, tables
from app.comparison import Member
from app.components import compare_views, compared_runs, experiment_progress
from app.components.compared_runs import Chosen
from app.tables import Table
from store.engine import Store
from store.rows import EvaluationRow, Scores

STYLE = f"""<style>{export.STYLE}
.duel {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 0.6rem; }}
.duel-card {{ display: flex; gap: 0.6rem; font-size: 0.875rem; border: 1px solid rgba(138, 147, 160, 0.4);
  border-radius: 0.5rem; padding: 0.5rem; }}
.duel-card img {{ width: 5rem; height: 5rem; object-fit: contain; image-rendering: pixelated; }}
</style>"""
LAUNCH_PAGE = "../pages/launch.py"
SHOWN_KINDS = ("test", "baseline", "thinking")


@st.cache_data(max_entries=32, show_spinner="Resampling")
def make_tables(evaluations: tuple[int, ...], _chosen: Chosen, _store: Store) -> list[Table]:
    """The tables of the chosen runs; `evaluations` are all that they can rest on, and never change once finished."""
    names = comparison.benchmarks(_chosen.members)

    def scores(evaluation_id: int) -> Scores:
        return data.scores(_store, evaluation_id)

    return [
        tables.style_drift(_chosen.groups, scores),
        tables.generalization(_chosen.groups, names, scores),
        tables.ranks(_chosen.groups, scores),
        *(table for table in [tables.load_bearing(_chosen.groups)] if table.lines),
    ]


def finished(members: Sequence[Member]) -> tuple[int, ...]:
    return tuple(sorted(e.id for m in members for e in m.evaluations if e.kind in SHOWN_KINDS and e.ended_at))


def show_tables(found: Sequence[Table], members: Sequence[Member]) -> None:
    uids = {member.run.id: member.run.uid for member in members}

    def link(evaluation: EvaluationRow) -> str:
        return f"traces?run={uids[evaluation.run_id]}&view=Predictions&evaluation={evaluation.id}"

    for table in found:
        st.subheader(table.title, anchor=table.key)
        st.html(export.html_table(table, link))


def take_away(found: Sequence[Table], chosen: Chosen, benchmark: str, facts: str) -> None:
    """Downloads, made when they are asked for."""

    def report() -> str:
        drawn = [
            ("Accuracy against similarity", compare_views.path_figure(chosen.groups)),
            (f"Accuracy by true count on {benchmark}", compare_views.count_figure(chosen.groups, benchmark)),
        ]
        return export.report("Vision-R1-Zero: comparison", found, [pair for pair in drawn if pair[1]], facts)

    files = {
        "Markdown": ("comparison.md", lambda: export.markdown(found)),
        "LaTeX": ("comparison.tex", lambda: export.latex(found)),
        "CSV": ("comparison.csv", lambda: export.comma_separated(found)),
        "HTML report": ("comparison.html", report),
    }
    with st.container(horizontal=True):
        for label, (name, make) in files.items():
            st.download_button(label, make, name, icon=":material/download:", key=f"export-{label}", on_click="ignore")


def body(store: Store, chosen: Chosen) -> None:
    names = comparison.benchmarks(chosen.members)
    found = make_tables(finished(chosen.members), chosen, store)
    show_tables(found, chosen.members)
    st.subheader("Behind the tables", anchor=False)
    benchmark = st.selectbox("Benchmark", names, key="compare.benchmark", width=260)
    rows = [compare_views.budget(store, member, chosen.members, benchmark) for member in chosen.members]
    take_away(found, chosen, benchmark, json.dumps(rows, indent=1, ensure_ascii=False))
    with st.expander("Conditions and budgets", icon=":material/rule:"):
        compare_views.conditions_table(rows)
        st.markdown("**What the configurations differ in**")
        compare_views.config_table(chosen.groups)
    compare_views.charts(chosen.groups, benchmark)
    with st.container(border=True):
        st.markdown("**Answers to each true count**")
        compare_views.confusion(store, chosen.groups, benchmark)
    with st.container(border=True):
        st.markdown("**Two checkpoints, example by example**")
        compare_views.duel(store, chosen.groups, benchmark)


st.title("Compare")
st.html(STYLE)
store = data.reader()
runs = data.runs(store)
if not runs:
    st.caption("There is no run yet: launch an experiment, and its tables fill here.")
    st.page_link(LAUNCH_PAGE, label="Launch an experiment", icon=":material/rocket_launch:")
    st.stop()
chosen = compared_runs.choose(store, runs)
if chosen.experiment is not None:
    is_open = experiment_progress.is_open(chosen.experiment)
    st.fragment(experiment_progress.progress, run_every=3.0 if is_open else None)(chosen.experiment, is_open)
if not comparison.benchmarks(chosen.members):
    st.info(compared_runs.nothing(chosen), icon=":material/info:")
    st.page_link(LAUNCH_PAGE, label="Launch an experiment", icon=":material/rocket_launch:")
    st.stop()
body(store, chosen)
st.caption("Reported rows are what another project states; nothing of them was measured here.")
