"""Rewards: explain the reward of one text, or rescore a past run under other weights or rules."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import streamlit as st

from app import recorded_view
from app.rewards import result
from app.shared import data, data_needs, format, run_picker, trace_view
from app.shared.rescoring import COMPUTABLE, Scheme, StepScores, rescore, total
from app.shared.trace_text import body
from app.traces.inspector import reward_table
from store.completions.rows import get_completion, iter_completions
from store.contents import Contents
from store.db.engine import Store, StoreError
from store.db.rows import RunRow, StoredCompletion
from store.trace import Form, form_of, parse
from trainer.spec.config import ConfigError, RewardConfig, RunConfig, from_dict
from trainer.spec.prompt import target
from trainer.spec.rewards import Explained, explain

VIEWS = ("One answer", "A whole run")
SECONDS_A_ROUND = 0.5
STATE = "rewards.again"
THINKING = "1. red circle top left 2. red circle bottom right"
# What each part of a rescored run needs.
PARTS: data_needs.Parts = {
    "groups with a signal": (data_needs.GROUPS,),
    "accuracy by our rules": (data_needs.TAGS,),
    "format and steps by our rules": (data_needs.TAGS,),
}


class Rescoring(NamedTuple):
    """A run that is being rescored."""

    run_id: int
    scheme: Scheme
    steps: Iterator[StepScores]
    scores: list[StepScores]
    is_over: bool


def config_of(store: Store, run: RunRow | None) -> RunConfig:
    """Return the run's configuration, or the current defaults if it can no longer be read."""
    if run is None:
        return RunConfig()
    try:
        return from_dict(data.get_run(run.id).config)
    except ConfigError:
        return RunConfig()


def weights_of(config: RunConfig, run: RunRow | None) -> dict[str, float]:
    """Return a run's reward weights; those of a script are known only from its recording."""
    recorded = {} if run is None else data.get_run(run.id).reward_weights
    configured = {reward.label: reward.weight for reward in config.paid}
    return configured if not recorded or configured.keys() == recorded.keys() else dict(recorded)


def scheme_of(config: RunConfig, run: RunRow | None) -> Scheme:
    """Return the rules and the weights of every component that is recorded or can be computed."""
    run_weights = weights_of(config, run)
    labels = [*run_weights, *(label for label in COMPUTABLE if label not in run_weights)]
    key = f"rewards.{run.uid if run else ''}"
    with st.container(border=True, key="scheme"):
        with st.grid("auto", min_column_width=150):
            weights = {
                label: st.number_input(
                    format.literal(label),
                    value=run_weights.get(label, 0.0),
                    step=0.25,
                    format="%g",
                    key=f"{key}.{label}",
                )
                for label in labels
            }
        with st.container(horizontal=True, gap="large"):
            form = st.toggle("Accuracy only when well-formed", key="rewards.form")
            right = st.toggle("Steps only when the answer is right", key="rewards.right")
    return Scheme(weights, answer_needs_form=form, steps_need_answer=right)


def one_answer(store: Store, config: RunConfig, scheme: Scheme) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        numbers = st.container(horizontal=True)
        picked = picked_completion(
            store,
            numbers.number_input(
                "Completion number", value=None, min_value=1, step=1, key="completion", bind="query-params", width=200
            ),
        )
        first = target(THINKING, 2, config.style) if picked is None else picked.text
        count = numbers.number_input(
            "True count",
            value=2 if picked is None else picked.truth,
            min_value=0,
            step=1,
            key=f"rewards.truth.{hash(first)}",
            width=140,
        )
        text = st.text_area("Completion", first, key=f"rewards.text.{hash(first)}", height=240)
    with right:
        show_reward(text, None if count is None else int(count), picked, config, scheme)


def show_reward(
    text: str, count: int | None, picked: StoredCompletion | None, config: RunConfig, scheme: Scheme
) -> None:
    """Show the reward of a text, component by component, and its reasoning steps."""
    recorded = picked.rewards if picked is not None and text == picked.text else {}
    components = score_components(text, count, config, scheme, recorded)
    values = {each.name: np.array([np.nan if each.value is None else each.value]) for each in components}
    trace = parse(text, form_of_picked(picked, config))
    total_reward = float(total(values, scheme, np.array([trace.wellformed]))[0])
    st.html(reward_table(components, recorded, total_reward))
    if trace.style not in ("cot", "direct"):
        computable = ", ".join(COMPUTABLE)
        st.caption(f"If not recorded, {computable} are computed by this project's rules for think and answer tags.")
    if scheme.answer_needs_form or scheme.steps_need_answer:
        st.caption("Only the total applies the two rules above; the rows do not.")
    st.html(body(trace).html)


def score_components(
    text: str, count: int | None, config: RunConfig, scheme: Scheme, recorded: Mapping[str, float | None]
) -> list[Explained]:
    """Return each component of the scheme: computed by our rules if possible, otherwise as recorded."""
    rows = tuple(
        RewardConfig(name=name, weight=weight) for name, weight in scheme.weights.items() if name in COMPUTABLE
    )
    others = [
        Explained(name, value, scheme.weights[name], "as recorded")
        for name, value in recorded.items()
        if name in scheme.weights and name not in COMPUTABLE
    ]
    return [*others, *explain(text, count, config.model_copy(update={"rewards": rows}))]


def form_of_picked(picked: StoredCompletion | None, config: RunConfig) -> Form:
    if picked is None:
        return config.style
    run = data.get_run(picked.run_id)
    return form_of(run.style, run.grammar)


def picked_completion(store: Store, number: float | None) -> StoredCompletion | None:
    """Return the completion with this number; None for the default text."""
    if number is None:
        return None
    try:
        return get_completion(store, int(number))
    except StoreError as error:
        st.warning(str(error), icon=":material/warning:")
        return None


def whole_run(store: Store, run: RunRow, config: RunConfig, scheme: Scheme) -> None:
    rescoring: Rescoring | None = st.session_state.get(STATE)
    if rescoring is not None and (rescoring.run_id, rescoring.scheme) != (run.id, scheme):
        rescoring = None
    if st.button("Rescore", type="primary", icon=":material/replay:"):
        rescoring = Rescoring(run.id, scheme, rescore(iter_completions(store, run.id), config, scheme), [], False)
    st.session_state[STATE] = rescoring
    if rescoring is None:
        st.caption("Rescores this run's samples under the weights above and compares its groups. Nothing is trained.")
        return
    st.fragment(run_every=None if rescoring.is_over else 0.1)(one_round)(run)


def one_round(run: RunRow) -> None:
    """Score more steps until the time of one round is over, and show the result so far."""
    rescoring: Rescoring = st.session_state[STATE]
    if rescoring.is_over:
        result.show(rescoring.scores)
        return
    deadline = time.monotonic() + SECONDS_A_ROUND
    for scores in rescoring.steps:
        rescoring.scores.append(scores)
        if time.monotonic() > deadline:
            break
    else:
        st.session_state[STATE] = rescoring._replace(is_over=True)
        st.rerun()
    last = rescoring.scores[-1].step
    st.progress(min(1.0, last / max(1, run.step)), text=f"step {last:,} of {run.step:,}")
    result.show(rescoring.scores)


def nothing_to_score(run: RunRow | None, has: Contents | None, runs: Sequence[RunRow]) -> None:
    """Show why the current run cannot be scored, and link to one that can."""
    if run is None:
        recorded_view.no_runs("the reward of any completion, and past runs rescored")
    others = [each for each in runs if run_picker.has_sampled(each)]
    if has is None or not others:
        st.info("No run has sampled completions yet: launch a GRPO run first.", icon=":material/info:")
        st.page_link("../pages/launch.py", label="Launch the demo", icon=":material/rocket_launch:")
        return
    name = format.literal(run.name)
    if has.sampled.any:
        st.info(f"{name} cannot be scored: its completions have no rewards.", icon=":material/info:")
    else:
        st.info(f"{name} has no sampled completions to score: choose a GRPO run.", icon=":material/info:")
    best = run_picker.most_interesting(others)
    if best.uid == run.uid:
        return
    query = {"run": best.uid, "view": VIEWS[1]}
    label = f"Score {format.literal(best.name)}"
    st.page_link("../pages/rewards.py", label=label, icon=":material/balance:", query_params=query)


st.title("Rewards")
trace_view.show_style()
store = data.reader()
runs = run_picker.selectable_runs()
run = run_picker.current_run(runs) if runs else None
view = st.segmented_control("Score", VIEWS, default=VIEWS[0], key="view", required=True, bind="query-params")
config = config_of(store, run)
scheme = scheme_of(config, run)
if view == VIEWS[0]:
    one_answer(store, config, scheme)
else:
    has = data.read_contents(run.id) if run is not None else None
    if run is None or has is None or not data_needs.allows(has, data_needs.COMPLETIONS, data_needs.REWARDS):
        nothing_to_score(run, has, runs)
    else:
        whole_run(store, run, config, scheme)
        data_needs.show_missing(has, PARTS, "Not available for this run")
