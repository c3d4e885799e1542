"""Traces: read every completion of a step, or every prediction of an evaluation, beside its image."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import chosen_trace, recorded_view
from app.shared import data, data_needs, links, run_picker, status
from app.shared.trace_view import Row, show_style
from app.traces import group_view, inspector, prediction_view
from app.traces.group_view import SHOWN, Block, GroupOptions, nothing_left, select, show_block
from app.traces.sparkline import sparkline
from store.db.engine import Store, StoreError
from store.db.rows import RunRow, StoredCompletion, StoredPrediction
from store.evaluations.predictions import list_predictions_to
from store.trace import Form, form_of

VIEWS = ("Completions", "Predictions")
BLOCKS_A_PAGE = 8
STEPS_NAMED = 8
# What each filter and sort order needs.
PARTS: data_needs.Parts = {
    "right and wrong": (data_needs.JUDGED,),
    "malformed": (data_needs.FORM,),
    "dead groups": (data_needs.REWARDS, data_needs.GROUPS),
    "reasoning steps": (data_needs.THINKING,),
}


def go_to_step(step: int) -> None:
    """Go to another step, at its first group."""
    links.go("group", "completion", run=st.session_state[run_picker.KEY], step=str(step))


def choose_step(store: Store, run: RunRow, chosen: StoredCompletion | None) -> int | None:
    """Return the chosen completion's step, else the one in the URL, else the last; None if there are no steps."""
    bounds = data.get_step_bounds(run.id)
    if bounds is None:
        return None
    requested = links.step() if chosen is None else chosen.step
    step = bounds.last if requested is None else min(max(requested, bounds.first), bounds.last)
    if bounds.first == bounds.last:
        return step
    reward = data.read_series(run.id, ("reward",), points=400).get("reward")
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
            help="Use the left and right arrow keys to move one step. The curve above is the mean reward.",
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


def trace_in_address() -> StoredCompletion | StoredPrediction | None:
    """Return the trace in the URL; show a warning if it no longer exists."""
    try:
        return chosen_trace.find()
    except StoreError as error:
        st.warning(str(error), icon=":material/warning:")
    return None


def choose_view(trace: StoredCompletion | StoredPrediction | None) -> str:
    """Return the view in the URL, or that of the trace; choosing the other view leaves the trace."""
    if trace is None:
        chosen = st.segmented_control("View", VIEWS, default=VIEWS[0], key="view", required=True, bind="query-params")
        return str(chosen)
    trace_view = VIEWS[1] if isinstance(trace, StoredPrediction) else VIEWS[0]
    st.segmented_control(
        "View",
        VIEWS,
        default=trace_view,
        key=f"traces.{trace_view}",
        required=True,
        on_change=leave_trace,
        args=(trace_view,),
    )
    return trace_view


def leave_trace(trace_view: str) -> None:
    links.go("completion", "prediction", run=st.session_state[run_picker.KEY])
    st.session_state["view"] = st.session_state[f"traces.{trace_view}"]


def completions(store: Store, run: RunRow, chosen: StoredCompletion | None) -> None:
    step = choose_step(store, run, chosen)
    note_on_evaluations(store, run)
    if step is None:
        nothing_sampled(run)
        return
    groups = data.list_groups(run.id, step)
    style = form_of(run.style, run.grammar)
    if chosen is not None:
        siblings = next(each.completions for each in groups if any(row.id == chosen.id for row in each.completions))
        inspector.inspect(store, data.get_run(run.id), chosen, siblings, style)
    look = group_view.filters(SHOWN)
    data_needs.show_missing(data.read_contents(run.id), PARTS, "Filters without effect on this run")
    blocks = [Block(group.group, group.example, group.completions, group.completions) for group in groups]
    requested = links.number("group")
    if chosen is not None:
        requested = next(i for i, block in enumerate(blocks) if any(row.id == chosen.id for row in block.rows))
        selected_blocks = [blocks[requested]]
    else:
        selected_blocks = [block for block in blocks if block.number == requested and requested is not None]
    if selected_blocks and len(blocks) > 1:
        name = f"Show all {len(blocks)} groups of step {step}"
        st.button(name, icon=":material/arrow_back:", on_click=go_to_step, args=(step,))
        blocks = selected_blocks

    def link(row: Row) -> str:
        return f"?run={run.uid}&step={step}&completion={row.id}"

    cards(blocks, style, look, link, where=f"step {step}", chosen=chosen.id if chosen else None)


def note_on_evaluations(store: Store, run: RunRow) -> None:
    """Point to the completions that another tool sampled for evaluation, which users may look for here."""
    steps = [str(each.step) for each in data.list_evaluations(run.id) if each.conditions.get("imported")]
    if steps:
        where = f"step {steps[0]}" if len(steps) == 1 else f"steps {', '.join(steps[:STEPS_NAMED])}"
        more = f" and {len(steps) - STEPS_NAMED} more" if len(steps) > STEPS_NAMED else ""
        st.info(
            f"The evaluation samples at {where}{more} are under Predictions: they were recorded instead of the "
            "training completions there.",
            icon=":material/fact_check:",
        )


def predictions(store: Store, run: RunRow, chosen: StoredPrediction | None) -> None:
    evaluations = [evaluation for evaluation in data.list_evaluations(run.id) if evaluation.done]
    if not evaluations:
        prediction_view.nothing_evaluated(run, soon=run.status in status.OPEN)
        return
    evaluation = prediction_view.choose_evaluation(
        evaluations, chosen.evaluation_id if chosen else links.number("evaluation")
    )
    style = form_of(evaluation.conditions.get("style", run.style), run.grammar)
    if chosen is not None:
        siblings = list_predictions_to(store, evaluation.id, [chosen.example_id])
        inspector.inspect(store, data.get_run(run.id), chosen, siblings, style)
    prediction_view.show(store, run, evaluation, style, chosen)


def cards(
    blocks: list[Block],
    style: Form,
    look: GroupOptions,
    link: Callable[[Row], str],
    *,
    where: str,
    chosen: int | None,
) -> None:
    """Show the blocks that match the filter, one page at a time."""
    matching = select(blocks, look.only, look.order)
    if not matching:
        st.info(nothing_left(look.only, where), icon=":material/filter_alt_off:")
        return
    pages = -(-len(matching) // BLOCKS_A_PAGE)
    page = st.pagination(pages, key=f"page of {where}") if pages > 1 else 1
    for block in matching[(page - 1) * BLOCKS_A_PAGE : page * BLOCKS_A_PAGE]:
        show_block(block, style, link=link, chosen=chosen, look=look)


def nothing_sampled(run: RunRow) -> None:
    """Show why there are no completions, and what to do about it."""
    if run.status is None:
        st.info("This run was imported without completions.", icon=":material/download:")
    elif data_needs.is_script(run):
        evaluated = data.read_contents(run.id).evaluated.any
        rest = ": its evaluation answers are under Predictions." if evaluated else ", and no evaluation."
        st.info(f"No completions of this script were recorded{rest}", icon=":material/info:")
    elif run.step > 0 and run.method not in status.SAMPLES_NOTHING:
        st.info(
            "The training completions of this run are not in this database: its answers are under Predictions.",
            icon=":material/info:",
        )
    elif run.method != "grpo":
        method = "SFT samples no completions in training" if run.method == "sft" else "This run is evaluation only"
        st.info(f"{method}: its answers are under Predictions.", icon=":material/info:")
    elif run.status == "queued":
        st.info("This run is queued: completions appear after its first step.", icon=":material/schedule:")
    elif run.status in status.ACTIVE:
        st.info(
            "The first step is still running: completions appear once it is finished.", icon=":material/hourglass_top:"
        )
    else:
        st.info("This run ended before its first step: see its log for the reason.", icon=":material/error:")
    st.page_link("../pages/run.py", label="Open the run", icon=":material/monitoring:", query_params={"run": run.uid})


st.title("Traces")
show_style()
store = data.reader()
runs = run_picker.selectable_runs()
if not runs:
    recorded_view.no_runs("every completion beside its image, with its rewards")
trace = trace_in_address()
# A trace in the URL takes precedence over everything else.
chosen_run = run_picker.current_run(runs)
view = choose_view(trace)
if view == VIEWS[1]:
    predictions(store, chosen_run, trace if isinstance(trace, StoredPrediction) else None)
else:
    completions(store, chosen_run, trace if isinstance(trace, StoredCompletion) else None)
