"""Traces: what did it say? Every sampled answer of a step, or of an evaluation, beside its image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import data, format, status
from app.components.group_view import ORDERS, SHOWN, Block, select, show_block
from app.components.sparkline import sparkline
from app.components.trace_view import Row, show_style
from store import read
from store.engine import Store, StoreError
from store.rows import EvaluationRow, RunRow
from trainer.prompt import Style

VIEWS = ("Completions", "Predictions")
BLOCKS_A_PAGE = 8


class Filter(NamedTuple):
    """What is shown: a word of SHOWN, a word of ORDERS, and whether every row is opened."""

    only: str
    order: str
    opened: bool


def choose_run(runs: list[RunRow]) -> RunRow:
    """The run in the address, else the newest that has made a step."""
    by_uid = {run.uid: run for run in runs}
    wanted = st.query_params.get("run")
    if wanted and wanted not in by_uid:
        st.warning(f"There is no run {format.literal(wanted)}; this is another one.", icon=":material/warning:")
    newest = next((run for run in runs if run.step), runs[0])
    st.session_state["traces.run"] = wanted if wanted in by_uid else newest.uid
    uid = st.selectbox(
        "Run", list(by_uid), key="traces.run", format_func=lambda u: label(by_uid[u]), on_change=go_to_run
    )
    return by_uid[uid]


def label(run: RunRow) -> str:
    method = status.METHODS.get(run.method, run.method)
    return f"{run.name} · {method} · {status.look(run.status).label} · step {run.step}"


def go_to_run() -> None:
    view = st.query_params.get("view")
    st.query_params.from_dict({"run": st.session_state["traces.run"]} | ({"view": view} if view else {}))


def go_to_step(step: int) -> None:
    """Shows another step from its first group on."""
    for name in ("group", "completion"):
        st.query_params.pop(name, None)
    st.query_params["step"] = str(step)


def whole(name: str) -> int | None:
    """A whole number from the address."""
    text = st.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None


def choose_step(store: Store, run: RunRow) -> int | None:
    """The step in the address, or of the completion in the address, else the last one; None if there is none."""
    bounds = data.step_bounds(store, run.id)
    if bounds is None:
        return None
    wanted = whole("step")
    if wanted is None:
        wanted = step_of_completion(store, run)
    step = bounds.last if wanted is None else min(max(wanted, bounds.first), bounds.last)
    if bounds.first == bounds.last:
        return step
    reward = data.series(store, run.id, ("reward",), points=400).get("reward")
    row = st.container(horizontal=True, vertical_alignment="bottom")
    move(row, "Left", ":material/chevron_left:", step - 1, disabled=step <= bounds.first)
    with row, st.container(gap=None):
        if reward is not None:
            alt = f"Reward over the steps {bounds.first} to {bounds.last}"
            sparkline(reward.step, reward.value, low=bounds.first, high=bounds.last, now=step, alt=alt)
        st.session_state["traces.step"] = step
        st.slider(
            "Step",
            bounds.first,
            bounds.last,
            key="traces.step",
            on_change=lambda: go_to_step(st.session_state["traces.step"]),
            help="Left and right arrow keys move by one step. The curve above is the mean reward.",
        )
    move(row, "Right", ":material/chevron_right:", step + 1, disabled=step >= bounds.last)
    return step


def move(place: DeltaGenerator, key: str, icon: str, step: int, *, disabled: bool) -> None:
    place.button(
        icon,
        key=f"traces.{key}",
        shortcut=key,
        help=f"Step {step}",
        on_click=go_to_step,
        args=(step,),
        disabled=disabled,
    )


def step_of_completion(store: Store, run: RunRow) -> int | None:
    wanted = whole("completion")
    if wanted is None:
        return None
    try:
        found = read.completion(store, wanted)
    except StoreError:
        return None
    return found.step if found.run_id == run.id else None


def filters(shown: Sequence[str]) -> Filter:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        only = st.segmented_control(
            "Show", shown, default="All", key="only", required=True, bind="query-params", wrap=True
        )
        order = st.selectbox("Sort by", list(ORDERS), key="order", bind="query-params", width=190)
        opened = st.toggle("Open all", key="traces.open", help="Show the thinking of every row.")
    return Filter(str(only), str(order), opened)


def completions(store: Store, run: RunRow) -> None:
    step = choose_step(store, run)
    if step is None:
        nothing_sampled(run)
        return
    chosen_filter = filters(SHOWN)
    blocks = [
        Block(group.group, group.example, group.completions, group.completions)
        for group in data.groups(store, run.id, step)
    ]
    chosen, wanted = whole("completion"), whole("group")
    if chosen is not None:
        wanted = next((block.number for block in blocks if any(row.id == chosen for row in block.rows)), wanted)
    if wanted is not None and len(blocks) > 1 and any(block.number == wanted for block in blocks):
        name = f"Show all {len(blocks)} groups of step {step}"
        st.button(name, icon=":material/arrow_back:", on_click=go_to_step, args=(step,))
        blocks = [block for block in blocks if block.number == wanted]

    def link(row: Row) -> str:
        return f"?run={run.uid}&step={step}&completion={row.id}"

    cards(blocks, style_of(run.style), chosen_filter, link, where=f"step {step}", chosen=chosen)


def predictions(store: Store, run: RunRow) -> None:
    found = [evaluation for evaluation in data.evaluations(store, run.id) if evaluation.done]
    if not found:
        nothing_evaluated(run)
        return
    by_id = {evaluation.id: evaluation for evaluation in found}
    wanted = whole("evaluation")
    st.session_state["traces.evaluation"] = wanted if wanted in by_id else found[-1].id
    chosen = st.selectbox(
        "Evaluation",
        list(reversed(by_id)),
        key="traces.evaluation",
        format_func=lambda key: describe(by_id[key]),
        on_change=lambda: go_to_evaluation(st.session_state["traces.evaluation"]),
    )
    evaluation = by_id[chosen]
    chosen_filter = filters(SHOWN[:-1])

    def link(row: Row) -> str:
        return f"?run={run.uid}&view=Predictions&evaluation={evaluation.id}&prediction={row.id}"

    style = style_of(evaluation.conditions.get("style", run.style))
    cards(blocks_of(store, evaluation), style, chosen_filter, link, where="this evaluation", chosen=whole("prediction"))


def blocks_of(store: Store, evaluation: EvaluationRow) -> list[Block]:
    """The predictions of an evaluation by example, the greedy answer first."""
    rows = read.predictions(store, evaluation.id, limit=evaluation.done)
    examples = read.examples(store, {row.example_id for row in rows})
    by_example = groupby(rows, key=lambda row: row.example_id)
    blocks = []
    for example_id, answers in by_example:
        listed = list(answers)
        blocks.append(Block(example_id, examples.get(example_id), listed, listed))
    return blocks


def describe(evaluation: EvaluationRow) -> str:
    right = evaluation.metrics.get("exact_match")
    result = f"{format.percent(right)} right" if right is not None else "not finished"
    return f"step {evaluation.step} · {evaluation.kind} · {evaluation.benchmark} · {evaluation.done} answers · {result}"


def go_to_evaluation(evaluation_id: int) -> None:
    st.query_params.pop("prediction", None)
    st.query_params["evaluation"] = str(evaluation_id)


def style_of(name: str) -> Style:
    return "direct" if name == "direct" else "cot"


def cards(
    blocks: list[Block],
    style: Style,
    chosen_filter: Filter,
    link: Callable[[Row], str],
    *,
    where: str,
    chosen: int | None,
) -> None:
    """The blocks that the filter leaves, some a page; the page with the chosen trace first."""
    kept = select(blocks, chosen_filter.only, chosen_filter.order)
    if not kept:
        st.info(nothing_left(chosen_filter.only, where), icon=":material/filter_alt_off:")
        return
    pages = -(-len(kept) // BLOCKS_A_PAGE)
    first = next((i for i, block in enumerate(kept) if any(row.id == chosen for row in block.rows)), 0)
    page = st.pagination(pages, default=first // BLOCKS_A_PAGE + 1, key=f"page of {where}") if pages > 1 else 1
    for block in kept[(page - 1) * BLOCKS_A_PAGE : page * BLOCKS_A_PAGE]:
        show_block(block, style, link=link, chosen=chosen, everything=chosen_filter.opened)


def nothing_left(only: str, where: str) -> str:
    if only == "All":
        return f"Nothing was recorded for {where}."
    if only == "Dead groups":
        return f"No dead groups in {where}: every group has rewards that differ."
    return f"No {only.lower()} answers in {where}. Choose All to see the others."


def nothing_sampled(run: RunRow) -> None:
    """Why there are no completions, and what to do about it."""
    if run.method != "grpo":
        method = "Imitation samples nothing while it trains" if run.method == "sft" else "This run only evaluates"
        st.info(f"{method}: its answers are under Predictions.", icon=":material/info:")
    elif run.status == "queued":
        st.info("This run waits in the queue; completions appear with its first step.", icon=":material/schedule:")
    elif run.status in status.ACTIVE:
        st.info("The first step is not finished yet; completions appear with it.", icon=":material/hourglass_top:")
    else:
        st.info("This run ended before its first step; its log says why.", icon=":material/error:")
    st.page_link("../pages/run.py", label="Open the run", icon=":material/monitoring:", query_params={"run": run.uid})


def nothing_evaluated(run: RunRow) -> None:
    soon = run.status in status.OPEN
    text = "The first evaluation is not finished yet." if soon else "This run was never evaluated."
    st.info(text, icon=":material/info:")
    st.page_link("../pages/run.py", label="Open the run", icon=":material/monitoring:", query_params={"run": run.uid})


def no_runs() -> None:
    st.info("There are no runs yet, so there is nothing to read.", icon=":material/psychology:")
    st.page_link("../pages/launch.py", label="Launch the demo", icon=":material/rocket_launch:")


st.title("Traces")
show_style()
store = data.reader()
runs = data.runs(store)
if not runs:
    no_runs()
    st.stop()
with st.container(horizontal=True, vertical_alignment="bottom"):
    chosen_run = choose_run(runs)
    view = st.segmented_control("View", VIEWS, default=VIEWS[0], key="view", required=True, bind="query-params")
if view == VIEWS[1]:
    predictions(store, chosen_run)
else:
    completions(store, chosen_run)
