"""The choice of two to four runs or checkpoints that answered the same questions, kept in the URL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from app import recorded
from app.drift import defaults
from app.drift.defaults import MOST_SIDES, Questions
from app.drift.sides import Side
from app.shared import data, format, links, status
from store.db.engine import Store
from store.db.rows import EvaluationRow, RunRow
from store.evaluations.records import run_of_evaluation

OFFERED = 100
"""Number of newest runs whose checkpoints can be chosen as columns."""
CHOICE = ("sides", "runs", "run", "on", "example", "phrase")
"""URL parameters that belong to one choice and are dropped with it."""


def choose(store: Store, runs: Sequence[RunRow]) -> list[Side]:
    """Show the choice; return the sides in the chosen order, possibly fewer than two.

    The URL's `sides=ID,ID` (evaluations) decides; else `runs=UID,UID` or `run=UID`, and `on=BENCHMARK SPLIT`.
    """
    runs = available_runs(store, runs)
    evaluations = data.evaluations_by_run(tuple(run.id for run in runs))
    all_sides = [Side(run, each) for run in runs for each in reversed(defaults.usable_evaluations(evaluations[run.id]))]
    topics = {" ".join(defaults.questions(side.evaluation)): defaults.questions(side.evaluation) for side in all_sides}
    if not topics:
        return []
    by_id = {side.evaluation.id: side for side in all_sides}
    requested_topic = st.query_params.get("on", "")
    sides = requested_sides(by_id) or default_sides(runs, evaluations, topics.get(requested_topic))
    topic = (
        " ".join(defaults.questions(sides[0].evaluation))
        if sides
        else requested_topic
        if requested_topic in topics
        else min(topics)
    )
    options = [id for id, side in by_id.items() if defaults.questions(side.evaluation) == topics[topic]]
    side_ids = [side.evaluation.id for side in sides if side.evaluation.id in options]
    if len(side_ids) < len(sides):
        st.warning("Columns with other questions than the first one are left out.", icon=":material/warning:")
    st.session_state["drift.on"], st.session_state["drift.sides"] = topic, side_ids
    with st.container(horizontal=True, vertical_alignment="bottom"):
        run_uids = ",".join(dict.fromkeys(side.run.uid for side in sides))
        st.selectbox("Questions", sorted(topics), key="drift.on", width=230, on_change=_go_to_topic, args=(run_uids,))
        chosen = st.multiselect(
            "Columns",
            options,
            key="drift.sides",
            format_func=lambda id: label(by_id[id]),
            max_selections=MOST_SIDES,
            placeholder="two to four runs or checkpoints",
            help="Choose two to four runs or checkpoints; the verdict compares the first two.",
            on_change=lambda: go_to(sides=",".join(map(str, st.session_state["drift.sides"]))),
        )
    return [by_id[id] for id in chosen]


def available_runs(store: Store, runs: Sequence[RunRow]) -> list[RunRow]:
    """Return the runs whose checkpoints can be columns: all, or the newest evaluated ones and those in the URL."""
    if len(runs) <= OFFERED:
        return list(runs)
    evaluated = data.list_evaluated(defaults.KINDS)
    evaluated_runs = [run for run in runs if run.id in evaluated]
    uids = frozenset(requested_run_uids()[:OFFERED])
    ids = {run_of_evaluation(store, id) for id in requested_evaluation_ids()[:MOST_SIDES]}
    if len(evaluated_runs) > OFFERED:
        note = f"Columns list the newest {OFFERED} of {format.count(len(evaluated_runs))} evaluated runs"
        st.caption(f"{note}: for others, open Drift from the Runs page.")
    return [run for i, run in enumerate(evaluated_runs) if i < OFFERED or run.uid in uids or run.id in ids]


def requested_run_uids() -> list[str]:
    return [uid for uid in st.query_params.get("runs", st.query_params.get("run", "")).split(",") if uid]


def requested_evaluation_ids() -> list[int]:
    parts = st.query_params.get("sides", "").split(",")
    return [number for text in parts if (number := links.parse_whole(text)) is not None]


def label(side: Side) -> str:
    run, evaluation = side.run, side.evaluation
    method = status.METHODS.get(run.method, run.method)
    rank = f" r{run.lora_rank}" if run.lora_rank else ""
    origin = " · recorded" if recorded.is_recorded(run) else ""
    kind = status.EVALUATED.get(evaluation.kind, evaluation.kind)
    return f"{run.name} · {method}{rank} · step {evaluation.step} · {kind}{origin}"


def requested_sides(by_id: dict[int, Side]) -> list[Side]:
    """Return the evaluations in the URL that exist."""
    requested_ids = requested_evaluation_ids()
    sides = [by_id[id] for id in dict.fromkeys(requested_ids) if id in by_id]
    if len(sides) < len(requested_ids):
        st.warning("Some of the evaluations in this URL no longer exist.", icon=":material/warning:")
    return sides[:MOST_SIDES]


def default_sides(
    runs: Sequence[RunRow], evaluations: Mapping[int, Sequence[EvaluationRow]], topic: Questions | None
) -> list[Side]:
    """Return the runs in the URL, else its run and a partner, else the newest pair; all on `topic` if given."""
    evaluated_runs = [run for run in runs if defaults.usable_evaluations(evaluations[run.id])]
    uids = requested_run_uids()
    selected_runs = defaults.in_order([run for run in evaluated_runs if run.uid in uids])[:MOST_SIDES]
    if uids and not selected_runs:
        gone = format.literal(", ".join(uids))
        st.warning(f"{gone} has no evaluation yet: showing other runs instead.", icon=":material/warning:")
    if len(selected_runs) < 2:
        selected_runs = defaults.pair(evaluated_runs, selected_runs[0] if selected_runs else None)
    saved = data.checkpoints_by_run(tuple(run.id for run in selected_runs))
    return defaults.sides(selected_runs, evaluations, saved, topic)


def _go_to_topic(uids: str) -> None:
    go_to(runs=uids, on=st.session_state["drift.on"])


def go_to(**choice: str) -> None:
    """Put another choice into the URL, in place of the parameters of the previous one."""
    links.go(*CHOICE, **choice)
