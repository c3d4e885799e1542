"""The predictions of one evaluation, example by example; only those of the current page are read."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import streamlit as st

from app.shared import format, links, run_picker
from app.shared.trace_view import Row
from app.traces.group_view import SHOWN, Block, filters, nothing_left, select, show_block
from store.db.engine import Store
from store.db.rows import EvaluationRow, RunRow, StoredPrediction
from store.evaluations.predictions import count_predicted, list_predicted, list_predictions_to, rank_of_example
from store.examples import get_examples
from store.trace import Form

BLOCKS_A_PAGE = 8
KINDS: dict[str, dict[str, Any]] = {
    "Right": {"correct": True},
    "Wrong": {"correct": False},
    "Malformed": {"wellformed": False},
}


def choose_evaluation(evaluations: list[EvaluationRow], requested_id: int | None) -> EvaluationRow:
    """Return the evaluation with this id, else the latest; `evaluations` must not be empty."""
    by_id = {evaluation.id: evaluation for evaluation in evaluations}
    st.session_state["traces.evaluation"] = requested_id if requested_id in by_id else evaluations[-1].id
    chosen = st.selectbox(
        "Evaluation",
        list(reversed(by_id)),
        key="traces.evaluation",
        format_func=lambda key: describe(by_id[key]),
        on_change=_go_to,
    )
    return by_id[chosen]


def _go_to() -> None:
    st.session_state["view"] = "Predictions"
    chosen = str(st.session_state["traces.evaluation"])
    links.go("prediction", run=st.session_state[run_picker.KEY], evaluation=chosen)


def describe(evaluation: EvaluationRow) -> str:
    right = evaluation.metrics.get("exact_match")
    result = (
        f"{format.percent(right)} right"
        if right is not None
        else "not judged"
        if evaluation.ended_at
        else "not finished"
    )
    answers = format.pluralize(evaluation.done, "answer")
    return f"step {evaluation.step} · {evaluation.kind} · {evaluation.benchmark} · {answers} · {result}"


def show(store: Store, run: RunRow, evaluation: EvaluationRow, style: Form, chosen: StoredPrediction | None) -> None:
    """Show the filters and one page, at first the page with the chosen prediction."""
    options = filters(SHOWN[:-1])
    kind = KINDS.get(options.only, {})
    total = count_predicted(store, evaluation.id, **kind)
    if not total:
        st.info(nothing_left(options.only, "this evaluation"), icon=":material/filter_alt_off:")
        return
    pages = -(-total // BLOCKS_A_PAGE)
    first = 0
    if chosen is not None:
        first = min(rank_of_example(store, evaluation.id, chosen.example_id, **kind), total - 1)
    page = 1
    if pages > 1:
        page = st.pagination(pages, default=first // BLOCKS_A_PAGE + 1, key=f"page of {evaluation.id} {options.only}")
    ids = list_predicted(store, evaluation.id, **kind, limit=BLOCKS_A_PAGE, offset=(page - 1) * BLOCKS_A_PAGE)

    def link(row: Row) -> str:
        return f"?run={run.uid}&view=Predictions&evaluation={evaluation.id}&prediction={row.id}"

    for block in select(blocks_of(store, evaluation.id, ids), options.only, options.order):
        show_block(block, style, link=link, chosen=chosen.id if chosen else None, look=options)


def blocks_of(store: Store, evaluation_id: int, example_ids: list[int]) -> list[Block]:
    """Return the predictions for these examples, greedy answers first."""
    rows = list_predictions_to(store, evaluation_id, example_ids)
    examples = get_examples(store, example_ids)
    blocks = []
    for example_id, each in groupby(rows, key=lambda row: row.example_id):
        listed = list(each)
        blocks.append(Block(example_id, examples.get(example_id), listed, listed))
    return blocks


def nothing_evaluated(run: RunRow, *, soon: bool) -> None:
    """Say why there are no predictions."""
    text = "The first evaluation is still running." if soon else "This run has no evaluations."
    st.info(text, icon=":material/info:")
    st.page_link("../pages/run.py", label="Open the run", icon=":material/monitoring:", query_params={"run": run.uid})
