"""Rewards: what is an answer paid, and why? For one text, or for a whole past run under other weights or rules."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import streamlit as st

from app import recorded_view
from app.rewards import result
from app.shared import data, format, run_picker, trace_view
from app.shared.rescoring import COMPUTABLE, Scheme, StepScores, rescore, total
from app.shared.trace_text import body
from app.traces.inspector import reward_table
from store.completions.rows import get_completion, iter_completions
from store.db.engine import Store, StoreError
from store.db.rows import RunRow
from store.trace import parse
from trainer.spec.config import ConfigError, RewardConfig, RunConfig, from_dict
from trainer.spec.rewards import explain

VIEWS = ("One answer", "A whole run")
SECONDS_A_ROUND = 0.5
STATE = "rewards.again"
FIRST = "<think>1. red circle top left 2. red circle bottom right</think><answer>2</answer>"


class Again(NamedTuple):
    """A run that is being scored again."""

    run_id: int
    scheme: Scheme
    steps: Iterator[StepScores]
    scores: list[StepScores]
    is_over: bool


def config_of(store: Store, run: RunRow | None) -> RunConfig:
    """Return the run's configuration, or today's defaults if it cannot be read any more."""
    if run is None:
        return RunConfig()
    try:
        return from_dict(data.get_run(run.id).config)
    except ConfigError:
        return RunConfig()


def scheme_of(config: RunConfig, run: RunRow | None) -> Scheme:
    """Return the rules, and the weights of every component that is recorded or can be computed."""
    own = {reward.label: reward.weight for reward in config.paid}
    labels = [*own, *(label for label in COMPUTABLE if label not in own)]
    key = f"rewards.{run.uid if run else ''}"
    with st.container(border=True, key="scheme"):
        with st.grid("auto", min_column_width=150):
            weights = {
                label: st.number_input(
                    format.literal(label), value=own.get(label, 0.0), step=0.25, format="%g", key=f"{key}.{label}"
                )
                for label in labels
            }
        with st.container(horizontal=True, gap="large"):
            form = st.toggle("Accuracy only when well-formed", key="rewards.form")
            right = st.toggle("Steps only when the answer is right", key="rewards.right")
    return Scheme(weights, answer_needs_form=form, steps_need_answer=right)


def one_answer(store: Store, config: RunConfig, scheme: Scheme) -> None:
    picked, truth = picked_completion(store)
    with st.container(horizontal=True, gap="medium"):
        text = st.text_area("Completion", picked, key=f"rewards.text.{hash(picked)}", height=170)
        count = st.number_input(
            "True count", value=truth, min_value=0, step=1, key=f"rewards.truth.{hash(picked)}", width=140
        )
    rows = tuple(
        RewardConfig(name=name, weight=weight) for name, weight in scheme.weights.items() if name in COMPUTABLE
    )
    scored = config.model_copy(update={"rewards": rows})
    found = explain(text, None if count is None else int(count), scored)
    trace = parse(text, config.style)
    values = {each.name: np.array([np.nan if each.value is None else each.value]) for each in found}
    paid = float(total(values, scheme, np.array([trace.wellformed]))[0])
    st.html(reward_table(found, {}, paid))
    if scheme.answer_needs_form or scheme.steps_need_answer:
        st.caption("The total applies the two rules above; the rows do not.")
    st.html(body(trace).html)


def picked_completion(store: Store) -> tuple[str, int | None]:
    """Return text and true count of the completion with this number, or an initial text."""
    number = st.number_input(
        "Completion number", value=None, min_value=1, step=1, key="completion", bind="query-params", width=200
    )
    if number is None:
        return FIRST, 2
    try:
        row = get_completion(store, int(number))
    except StoreError as error:
        st.warning(str(error), icon=":material/warning:")
        return FIRST, 2
    return row.text, row.truth


def whole_run(store: Store, run: RunRow, config: RunConfig, scheme: Scheme) -> None:
    again: Again | None = st.session_state.get(STATE)
    if again is not None and (again.run_id, again.scheme) != (run.id, scheme):
        again = None
    if st.button("Score again", type="primary", icon=":material/replay:"):
        again = Again(run.id, scheme, rescore(iter_completions(store, run.id), config, scheme), [], False)
    st.session_state[STATE] = again
    if again is None:
        st.caption(
            "Scores this run's samples again under the weights above and compares its groups. Nothing is trained."
        )
        return
    st.fragment(run_every=None if again.is_over else 0.1)(one_round)(run)


def one_round(run: RunRow) -> None:
    """Score some more steps, within the time of a round, and show the result so far."""
    again: Again = st.session_state[STATE]
    if again.is_over:
        result.show(again.scores)
        return
    deadline = time.monotonic() + SECONDS_A_ROUND
    for scores in again.steps:
        again.scores.append(scores)
        if time.monotonic() > deadline:
            break
    else:
        st.session_state[STATE] = again._replace(is_over=True)
        st.rerun()
    last = again.scores[-1].step
    st.progress(min(1.0, last / max(1, run.step)), text=f"step {last:,} of {run.step:,}")
    result.show(again.scores)


def nothing_sampled(run: RunRow | None, runs: Sequence[RunRow]) -> None:
    """Say why the run in view cannot be scored, and name one that can."""
    if run is None:
        recorded_view.no_runs("answers to score again")
    others = [each for each in runs if run_picker.has_sampled(each)]
    if not others:
        st.info("No run has sampled anything yet: launch a GRPO run first.", icon=":material/info:")
        st.page_link("../pages/launch.py", label="Launch the demo", icon=":material/rocket_launch:")
        return
    st.info(f"{format.literal(run.name)} has sampled nothing to score: choose a GRPO run.", icon=":material/info:")
    best = run_picker.most_worth_seeing(others)
    query = {"run": best.uid, "view": VIEWS[1]}
    label = f"Score {format.literal(best.name)}"
    st.page_link("../pages/rewards.py", label=label, icon=":material/balance:", query_params=query)


st.title("Rewards")
trace_view.show_style()
store = data.reader()
runs = run_picker.offered()
run = run_picker.in_view(runs) if runs else None
view = st.segmented_control("Score", VIEWS, default=VIEWS[0], key="view", required=True, bind="query-params")
config = config_of(store, run)
scheme = scheme_of(config, run)
if view == VIEWS[0]:
    one_answer(store, config, scheme)
elif run is None or not run_picker.has_sampled(run):
    nothing_sampled(run, runs)
else:
    whole_run(store, run, config, scheme)
