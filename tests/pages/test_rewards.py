"""The Rewards page: what one text is paid, and what a past run would have been paid under other weights or rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.shared.rescoring import Scheme, advantages, components, rescore
from store.completions.rows import get_completion, iter_completions
from store.db.engine import Store
from store.runs import get_run
from tests import seeded
from tests.pages.test_trace_view import a_row
from trainer.spec.config import RunConfig, from_dict

Open = Callable[..., AppTest]
EQUAL = {"format": 1.0, "accuracy": 2.0, "steps": 0.5}


def scored(rows: list[Any], config: RunConfig | None = None, **scheme: Any) -> Any:
    [step] = rescore(rows, config or RunConfig(), Scheme(**{"weights": EQUAL, **scheme}))
    return step


def a_group(*parts: tuple[float, float, float], **fields: Any) -> list[Any]:
    """Rows of one group with these values of format, accuracy and steps."""
    return [
        a_row(
            id=i,
            index=i,
            rewards=dict(zip(EQUAL, values, strict=True)),
            reward=sum(weight * value for weight, value in zip(EQUAL.values(), values, strict=True)),
            wellformed=values[0] == 1.0,
            **fields,
        )
        for i, values in enumerate(parts)
    ]


def test_the_weights_of_a_run_give_what_was_recorded(seeded_store: Store) -> None:
    run = get_run(seeded_store, seeded.find(seeded_store, "shapes-grpo").id)
    config = from_dict(run.config)
    scores = list(rescore(iter_completions(seeded_store, run.id), config, Scheme(run.reward_weights)))
    assert [each.step for each in scores] == list(range(1, 171))
    assert sum(each.completions for each in scores) == 170 * seeded.GROUPS * 8
    assert all(each.live_before == each.live_after and not each.turned and not each.changes for each in scores)
    assert all(each.reward_before == pytest.approx(each.reward_after) for each in scores)


def test_a_weight_of_zero_kills_the_groups_that_lived_by_it() -> None:
    rows = a_group((1, 1, 0.2), (1, 1, 0.5), (1, 1, 0.3))
    assert (scored(rows).live_before, scored(rows).live_after) == (1, 1)
    without = scored(rows, weights={**EQUAL, "steps": 0.0})
    assert (without.live_before, without.live_after) == (1, 0)
    assert {change.after for change in without.changes} == {0.0}


def test_another_weight_makes_another_answer_the_best() -> None:
    rows = a_group((1, 0, 0.9), (1, 1, 0.1))
    assert scored(rows).other_best == 0
    padded = scored(rows, weights={**EQUAL, "steps": 5.0})
    assert (padded.other_best, padded.turned) == (1, 2)
    assert {change.id for change in padded.changes} == {0, 1}


def test_the_rules_take_what_they_say() -> None:
    rows = a_group((0, 1, 0.0), (1, 0, 0.9), (1, 1, 0.3))
    assert scored(rows).reward_after == pytest.approx((2 + 1.45 + 3.15) / 3)
    assert scored(rows, answer_needs_form=True).reward_after == pytest.approx((0 + 1.45 + 3.15) / 3)
    assert scored(rows, steps_need_answer=True).reward_after == pytest.approx((2 + 1.0 + 3.15) / 3)


def test_what_was_not_recorded_is_computed_from_the_texts() -> None:
    rows = [a_row(id=0, text="<think>1. red circle</think><answer>1</answer>"), a_row(id=1, text="nothing")]
    found = components(rows, ["keyword", "cosine"], RunConfig())
    assert found["keyword"].tolist() == [0.2, 0.0]
    assert np.isnan(found["cosine"]).all()


def test_advantages_are_those_of_the_trainer() -> None:
    rewards = np.array([1.0, 2.0, 3.0, 0.0, 0.0, 0.0])
    groups = [np.array([0, 1, 2]), np.array([3, 4, 5])]
    assert advantages(rewards, groups, "group") == pytest.approx([-0.9999, 0, 0.9999, 0, 0, 0], abs=1e-6)
    assert advantages(rewards, groups, "none").tolist() == [-1, 0, 1, 0, 0, 0]
    spread = rewards.std(ddof=1) + 1e-4
    assert advantages(rewards, groups, "batch") == pytest.approx([-1 / spread, 0, 1 / spread, 0, 0, 0])


def test_rows_without_a_reward_or_a_group_number_are_no_obstacle() -> None:
    rows = [*a_group((1, 1, 0), (1, 0, 0), group=None), a_row(id=7, reward=None)]
    step = scored(rows)
    assert (step.completions, step.groups, step.live_after) == (2, 1, 1)
    assert scored([a_row(reward=None)]).groups == 0


def test_a_pasted_answer_is_explained(seeded_store: Store, open_page: Open) -> None:
    at = open_page("rewards")
    table = next(element.value for element in at.html if "<table" in element.value)
    assert "2 × 0.1" in table and "answers 2, which is correct" in table
    at.text_area[0].set_value("<think>1. a 2. a</think><answer>3</answer> <script>alert(1)</script>").run()
    assert not at.exception
    table = next(element.value for element in at.html if "<table" in element.value)
    assert "the true count is 2" in table
    assert "<script>" not in "".join(element.value for element in at.html)
    assert any("tv-bad" in element.value and "<style" not in element.value for element in at.html)


def test_a_completion_is_picked_by_its_number(seeded_store: Store, open_page: Open) -> None:
    row = get_completion(seeded_store, 500)
    at = open_page("rewards", completion="500")
    assert at.text_area[0].value == row.text
    assert next(each.value for each in at.number_input if each.label == "True count") == row.truth
    assert "no longer" in open_page("rewards", completion="99999999").warning[0].value


def test_a_whole_run_is_scored_again(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    at = open_page("rewards", run=run.uid, view="A whole run")
    next(each for each in at.number_input if each.label == "steps").set_value(0.0).run()
    next(button for button in at.button if button.label == "Rescore").click().run()
    for _ in range(30):
        if at.session_state["rewards.again"].is_over:
            break
        at.run()
    assert not at.exception
    assert at.session_state["rewards.again"].is_over
    assert at.metric[0].label == "Groups with a signal"
    assert len(at.session_state["rewards.again"].scores) == 170


def test_a_database_without_sampled_runs_still_scores_a_text(empty_store: Store, open_page: Open) -> None:
    at = open_page("rewards")
    assert any("<table" in element.value for element in at.html)
    assert "past runs rescored" in open_page("rewards", view="A whole run").info[0].value
