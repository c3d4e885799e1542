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
    runs = offered(store, runs)
    evaluations = data.evaluations_by_run(tuple(run.id for run in runs))
    known = [Side(run, each) for run in runs for each in reversed(defaults.usable(evaluations[run.id]))]
    topics = {" ".join(defaults.questions(side.evaluation)): defaults.questions(side.evaluation) for side in known}
    if not topics:
        return []
    by_id = {side.evaluation.id: side for side in known}
    asked = st.query_params.get("on", "")
    sides = named(by_id) or suggested(runs, evaluations, topics.get(asked))
    topic = " ".join(defaults.questions(sides[0].evaluation)) if sides else asked if asked in topics else min(topics)
    options = [id for id, side in by_id.items() if defaults.questions(side.evaluation) == topics[topic]]
    kept = [side.evaluation.id for side in sides if side.evaluation.id in options]
    if len(kept) < len(sides):
        st.warning("Columns with other questions than the first one are left out.", icon=":material/warning:")
    st.session_state["drift.on"], st.session_state["drift.sides"] = topic, kept
    with st.container(horizontal=True, vertical_alignment="bottom"):
        shown = ",".join(dict.fromkeys(side.run.uid for side in sides))
        st.selectbox("Questions", sorted(topics), key="drift.on", width=230, on_change=_ask, args=(shown,))
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


def offered(store: Store, runs: Sequence[RunRow]) -> list[RunRow]:
    """Return the runs whose checkpoints can be columns: all, or the newest evaluated ones and those in the URL."""
    if len(runs) <= OFFERED:
        return list(runs)
    evaluated = data.list_evaluated(defaults.KINDS)
    shown = [run for run in runs if run.id in evaluated]
    uids = frozenset(asked_runs()[:OFFERED])
    ids = {run_of_evaluation(store, id) for id in asked_sides()[:MOST_SIDES]}
    if len(shown) > OFFERED:
        told = f"Columns list the newest {OFFERED} of {format.count(len(shown))} evaluated runs"
        st.caption(f"{told}: for others, open Drift from the Runs page.")
    return [run for i, run in enumerate(shown) if i < OFFERED or run.uid in uids or run.id in ids]


def asked_runs() -> list[str]:
    return [uid for uid in st.query_params.get("runs", st.query_params.get("run", "")).split(",") if uid]


def asked_sides() -> list[int]:
    asked = st.query_params.get("sides", "").split(",")
    return [number for text in asked if (number := links.whole(text)) is not None]


def label(side: Side) -> str:
    run, evaluation = side.run, side.evaluation
    method = status.METHODS.get(run.method, run.method)
    rank = f" r{run.lora_rank}" if run.lora_rank else ""
    origin = " · recorded" if recorded.is_recorded(run) else ""
    kind = status.EVALUATED.get(evaluation.kind, evaluation.kind)
    return f"{run.name} · {method}{rank} · step {evaluation.step} · {kind}{origin}"


def named(by_id: dict[int, Side]) -> list[Side]:
    """Return the evaluations in the URL that exist."""
    asked = asked_sides()
    sides = [by_id[id] for id in dict.fromkeys(asked) if id in by_id]
    if len(sides) < len(asked):
        st.warning("Some of the evaluations in this URL no longer exist.", icon=":material/warning:")
    return sides[:MOST_SIDES]


def suggested(
    runs: Sequence[RunRow], evaluations: Mapping[int, Sequence[EvaluationRow]], topic: Questions | None
) -> list[Side]:
    """Return the runs in the URL, else its run and a partner, else the newest pair; all on `topic` if given."""
    shown = [run for run in runs if defaults.usable(evaluations[run.id])]
    uids = asked_runs()
    wanted = defaults.in_order([run for run in shown if run.uid in uids])[:MOST_SIDES]
    if uids and not wanted:
        gone = format.literal(", ".join(uids))
        st.warning(f"{gone} has no evaluation yet: showing other runs instead.", icon=":material/warning:")
    if len(wanted) < 2:
        wanted = defaults.pair(shown, wanted[0] if wanted else None)
    saved = data.checkpoints_by_run(tuple(run.id for run in wanted))
    return defaults.sides(wanted, evaluations, saved, topic)


def _ask(uids: str) -> None:
    go_to(runs=uids, on=st.session_state["drift.on"])


def go_to(**choice: str) -> None:
    """Put another choice into the URL, in place of the parameters of the previous one."""
    links.go(*CHOICE, **choice)
