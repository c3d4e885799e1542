"""Choose the runs to compare: those of an experiment, those in the URL, or all tested ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import streamlit as st

from app.compare import groups as comparison
from app.compare.groups import Group, Member
from app.shared import data, format, links, run_picker
from app.shared.data_needs import is_script
from store.db.rows import ExperimentRow, RunRow

ALL = "all"
NEWEST = 12
"""Number of newest tested runs that are compared by default."""
MOST = 100
"""Maximum number of runs that are compared."""


class ComparedRuns(NamedTuple):
    """`experiment` is None if runs were chosen individually; `left_out` says which runs are not compared."""

    groups: list[Group]
    members: list[Member]
    experiment: ExperimentRow | None
    left_out: str = ""


def choose(runs: Sequence[RunRow]) -> ComparedRuns:
    """Show and return the choice, which the URL keeps as `experiment=UID` or `runs=UID,UID`."""
    experiments = data.list_experiments()
    uids = [uid for uid in st.query_params.get("runs", "").split(",") if uid]
    if uids:
        st.caption(f"{format.pluralize(len(uids), 'run')} selected.")
        st.button("Show all runs", icon=":material/close:", type="tertiary", on_click=run_picker.clear_compared)
        selected_runs = [run for run in runs if run.uid in frozenset(uids)]
        return _compare(selected_runs, None, MOST)
    by_uid = {row.uid: row for row in experiments}
    if not by_uid:
        return _compare(tested_runs(runs), None, NEWEST)
    in_view = next((run.id for run in runs if run.uid == st.query_params.get("run")), None)
    default_experiment = next((row for row in experiments if in_view in row.arms), experiments[0])
    requested_uid = st.query_params.get("experiment", default_experiment.uid)
    st.session_state["compare.experiment"] = requested_uid if requested_uid in by_uid else ALL
    uid = st.selectbox(
        "Experiment",
        [*by_uid, ALL],
        key="compare.experiment",
        format_func=lambda key: label(by_uid[key]) if key in by_uid else "All runs",
        on_change=lambda: links.go(experiment=st.session_state["compare.experiment"]),
        width=480,
    )
    experiment = by_uid.get(uid)
    if experiment is None:
        return _compare(tested_runs(runs), None, NEWEST)
    return _compare([run for run in runs if run.id in experiment.arms], experiment, MOST)


def label(experiment: ExperimentRow) -> str:
    return f"{experiment.name} · {format.pluralize(len(experiment.arms), 'run')} · {experiment.uid}"


def tested_runs(runs: Sequence[RunRow]) -> list[RunRow]:
    """Return the runs with a finished test: others would only use up places among those compared."""
    if len(runs) <= NEWEST:
        return list(runs)
    ids, scripts = data.list_evaluated(("test",)), data.list_evaluated(("val",))
    return [run for run in runs if run.id in ids or (is_script(run) and run.id in scripts)]


def _compare(runs: Sequence[RunRow], experiment: ExperimentRow | None, limit: int) -> ComparedRuns:
    """Return the first `limit` of the runs, which are ordered newest first."""
    comparable = [run for run in runs if run.method in comparison.METHODS or is_script(run)]
    ids = tuple(run.id for run in comparable[:limit])
    details, evaluations, saved = data.get_runs(ids), data.evaluations_by_run(ids), data.checkpoints_by_run(ids)
    members = [Member(details[id], evaluations[id], saved[id]) for id in ids if id in details]
    groups = comparison.groups(members, experiment.arms if experiment else {})
    return ComparedRuns(groups, members, experiment, _left_out(len(comparable), limit))


def _left_out(count: int, limit: int) -> str:
    if count <= limit:
        return ""
    noun = "tested runs" if limit == NEWEST else "chosen runs"
    return f"Comparing the newest {limit} of {format.count(count)} {noun}: select others on the Runs page."


def names(groups: Sequence[Group]) -> dict[str, Group]:
    """Return groups by a distinguishing name."""
    groups_by_name: dict[str, Group] = {}
    for group in groups:
        rank = f" r{group.first.lora_rank}" if group.first.lora_rank else ""
        name = f"{group.label}{rank} · {group.first.model.rstrip('/').rpartition('/')[2]}"
        groups_by_name[name if name not in groups_by_name else f"{name} · {group.first.name} {group.first.uid}"] = group
    return groups_by_name


def place_in_method(groups: Sequence[Group], group: Group) -> int:
    """Return the index of a group among those of its method, so that charts can tell them apart."""
    return [each for each in groups if each.first.method == group.first.method].index(group)


def nothing_message(chosen: ComparedRuns) -> str:
    """Return a sentence that says why there is nothing to compare."""
    if chosen.experiment is not None:
        return (
            f"No run of {format.literal(chosen.experiment.name)} has been tested yet: results appear as tests finish."
        )
    if chosen.members and all(is_script(member.run) for member in chosen.members):
        return "These scripts have no evaluations: record one with `run.evaluation(step, benchmark, rows)`."
    return "No run has been tested yet: launch an experiment, or evaluate a run on its page."
