"""What completions add up to, against a second implementation; recorded, recorded again, and made up for later."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text

from store.completions import emergence
from store.completions.emergence import Emergence
from store.completions.summary import answers_twice, is_dead, liveness, right_share, summarize
from store.db.connection import reading, writing
from store.db.engine import Store
from store.db.rows import CompletionRow
from store.db.schema import StepSummary
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.examples import add_examples
from store.steps import record_step, truncate_after
from tests.store import make

WEIGHTS = {"format": 1.0, "accuracy": 2.0}


def completion(answer: int | None, truth: int | None, wellformed: bool, steps: int, **fields: object) -> CompletionRow:
    parts = {"format": float(wellformed), "accuracy": float(answer is not None and answer == truth)}
    return make.completion(
        text=f"{answer} {wellformed} {steps}",
        answer=answer,
        wellformed=wellformed,
        correct=None if truth is None else answer == truth,
        reasoning_steps=steps if wellformed else 0,
        reward=sum(WEIGHTS[name] * value for name, value in parts.items()),
        rewards=parts,
        **fields,
    )


@st.composite
def steps_of_groups(draw: st.DrawFn) -> list[list[CompletionRow]]:
    """Groups of completions; the example of group g has the true count g % 3."""
    small = st.integers(0, 4)
    return [
        [
            completion(
                draw(st.none() | small),
                group % 3,
                draw(st.booleans()),
                draw(small),
                group=group,
                index=index,
                example_id=group + 1,
                tokens=draw(st.none() | st.integers(1, 300)),
                truncated=draw(st.booleans()),
            )
            for index in range(draw(st.integers(1, 4)))
        ]
        for group in range(draw(st.integers(1, 4)))
    ]


def entropy(values: Sequence[object]) -> float:
    return -sum(n / len(values) * math.log2(n / len(values)) for n in Counter(values).values())


@settings(max_examples=60, deadline=None)
@given(groups=steps_of_groups())
def test_figures_are_those_of_the_rows(groups: list[list[CompletionRow]]) -> None:
    rows = [row for group in groups for row in group]
    figures = json.loads(json.dumps(summarize(rows, {number + 1: number % 3 for number in range(4)})))
    found = emergence.of_figures([7], [figures])
    formed = [row for row in rows if row.wellformed]
    truths = [((row.example_id or 1) - 1) % 3 for row in rows]
    assert found.share("wellformed")[0] == pytest.approx(len(formed) / len(rows))
    assert found.share("right", "judged")[0] == pytest.approx(np.mean([bool(row.correct) for row in rows]))
    assert found.share("distinct")[0] == pytest.approx(len({row.text for row in rows}) / len(rows))
    assert found.mean_steps[0] == pytest.approx(np.mean([row.reasoning_steps for row in rows]))
    assert found.reasoning_steps.sum() == len(rows)
    assert found.answer_entropy[0] == pytest.approx(entropy([row.answer for row in rows]), abs=1e-9)
    assert found.truth_entropy[0] == pytest.approx(entropy(truths), abs=1e-9)
    lengths = [row.tokens for row in rows if row.tokens is not None]
    assert found.tokens.sum() == len(lengths)
    np.testing.assert_allclose(found.mean_tokens[0], np.mean(lengths) if lengths else np.nan)
    pairs = [(row.reasoning_steps, truth) for row, truth in zip(rows, truths, strict=True) if row.wellformed]
    np.testing.assert_allclose(found.excess[0], np.mean([a - b for a, b in pairs]) if pairs else np.nan)
    np.testing.assert_allclose(
        found.share("over", "compared")[0], np.mean([a > b for a, b in pairs]) if pairs else np.nan
    )


@settings(max_examples=60, deadline=None)
@given(groups=steps_of_groups())
def test_components_share_the_variance_of_the_reward_among_them(groups: list[list[CompletionRow]]) -> None:
    found = emergence.of_figures([1], [summarize([row for group in groups for row in group], {})])
    variance = sum(np.var([row.reward for row in group]) for group in groups)
    assert found.sums["variance"][0] == pytest.approx(variance, abs=1e-9)
    movers = found.movers(WEIGHTS)
    for name, share in movers.items():
        covariance = sum(
            np.cov([row.rewards[name] for row in group], [row.reward for row in group], bias=True)[0, 1]
            for group in groups
            if len(group) > 1
        )
        if variance > 1e-6:
            assert share[0] == pytest.approx(WEIGHTS[name] * covariance / variance)
    if variance > 1e-6:
        assert sum(share[0] for share in movers.values()) == pytest.approx(1)
    assert sum(found.groups[kind][0] for kind in found.groups) == sum(len(group) > 1 for group in groups)


@pytest.mark.parametrize(
    ("answers", "kind"),
    [((1, 1), "right"), ((2, 2), "wrong"), ((1, 2), "accuracy")],
)
def test_groups_are_live_through_accuracy_or_dead(answers: tuple[int, int], kind: str) -> None:
    assert liveness([completion(answer, 1, True, 0) for answer in answers]) == kind


@pytest.mark.parametrize(
    ("rewards", "dead"),
    [
        ((1.0, 1.0), True),
        ((1.0, 1.0 + 1e-7, None), True),
        ((1.0, 1.01), False),
        ((1.0,), False),
        ((1.0, None), False),
        ((1.0, float("nan")), False),
        ((None, None), False),
        ((), False),
    ],
)
def test_a_dead_group_has_two_rewards_that_are_the_same(rewards: tuple[float | None, ...], dead: bool) -> None:
    rows = [make.completion(index, correct=False, reward=reward) for index, reward in enumerate(rewards)]
    assert is_dead(rows) == dead
    assert summarize(rows, {})["groups"].get("wrong", 0) == dead


@pytest.mark.parametrize(("verdicts", "share"), [((True, False, None), 0.5), ((True, None), 1.0), ((None,), np.nan)])
def test_accuracy_is_the_share_of_right_answers_among_the_judged(
    verdicts: tuple[bool | None, ...], share: float
) -> None:
    rows = [make.completion(index, correct=verdict) for index, verdict in enumerate(verdicts)]
    found = right_share(rows)
    np.testing.assert_equal(np.nan if found is None else found, share)
    np.testing.assert_equal(emergence.of_figures([1], [summarize(rows, {})]).share("right", "judged")[0], share)


def test_a_group_that_differs_in_form_only_is_live_through_style() -> None:
    assert liveness([completion(2, 1, True, 0), completion(2, 1, False, 0)]) == "style"
    assert liveness([completion(1, 1, True, 0), completion(1, 1, False, 0)]) == "style"


@pytest.mark.parametrize(
    ("said", "span", "answer", "several"),
    [
        ("<answer>3</answer>", (8, 9), 3, False),
        ("<answer>3 or 4</answer>", (8, 14), None, True),
        ("<answer>about 3</answer>", (8, 15), None, False),
        ("<answer>3</answer><answer>4</answer>", None, None, True),
        ("3 4 5", None, None, False),
    ],
)
def test_several_answers(said: str, span: tuple[int, int] | None, answer: int | None, several: bool) -> None:
    assert answers_twice(make.completion(text=said, answer_span=span, answer=answer)) is several


def record(store: Store, run_id: int, step: int, *rows: CompletionRow) -> None:
    record_step(store, run_id, step, {"reward": 1.0}, at=1.0, completions=rows)


def test_a_recorded_step_is_summarized_with_the_true_counts_of_its_examples(store: Store) -> None:
    (example_id,) = add_examples(store, [make.example(answer=2)])
    run_id = make.run(store).id
    record(
        store,
        run_id,
        3,
        make.completion(example_id=example_id, reasoning_steps=5),
        make.completion(1, reasoning_steps=0),
    )
    found = emergence.emergence(store, run_id)
    assert found.step.tolist() == [3]
    assert found.excess.tolist() == [3.0]
    assert found.top_truth.tolist() == [1.0]
    assert emergence.unsummarized_steps(store, run_id) == []


def test_a_step_that_is_recorded_again_is_summarized_again(store: Store) -> None:
    run_id = make.run(store).id
    record(store, run_id, 1, make.completion(), make.completion(1))
    record(store, run_id, 1, make.completion(wellformed=False))
    record(store, run_id, 2, make.completion())
    assert emergence.emergence(store, run_id).sums["n"].tolist() == [1, 1]
    record(store, run_id, 1, make.completion(generation=1), make.completion(1, generation=1))
    record(store, run_id, 1)
    assert emergence.emergence(store, run_id).sums["n"].tolist() == [3, 1]
    truncate_after(store, run_id, 1)
    assert emergence.emergence(store, run_id).step.tolist() == [1]


def test_summaries_that_are_missing_can_be_made_later(store: Store) -> None:
    (example_id,) = add_examples(store, [make.example(answer=2)])
    run_id = make.run(store).id
    for step in (1, 2, 3):
        record(store, run_id, step, *(make.completion(i, example_id=example_id, tokens=step * i) for i in range(4)))
    record_step(store, run_id, 4, {}, at=1.0)
    before = emergence.emergence(store, run_id)
    with writing(store) as connection:
        connection.execute(delete(StepSummary).where(StepSummary.step != 2))
    assert emergence.unsummarized_steps(store, run_id) == [1, 3]
    emergence.add_summaries(store, run_id, [1, 2, 3])
    assert same(emergence.emergence(store, run_id), before)
    assert emergence.unsummarized_steps(store, run_id) == []


def same(one: Emergence, other: Emergence) -> bool:
    return all(
        np.array_equal(one.reasoning_steps, other.reasoning_steps)
        and np.array_equal(one.tokens, other.tokens)
        and np.array_equal(one.sums[name], other.sums[name])
        for name in one.sums
    )


def test_what_is_recorded_is_valid_json_whatever_the_rewards_are(store: Store) -> None:
    run_id = make.run(store).id
    record(store, run_id, 1, make.completion(reward=math.nan), make.completion(1, rewards={"format": math.inf}))
    with reading(store) as connection:
        stored = connection.execute(text("SELECT CAST(figures AS TEXT) FROM step_summary")).scalar_one()
    assert not {"NaN", "Infinity"} & set(stored.replace(",", " ").replace(":", " ").replace("}", " ").split())


@pytest.mark.parametrize(
    ("most", "every", "steps"), [(10, 1, list(range(3, 33, 3))), (9, 2, [3, 9, 15, 21, 27]), (3, 4, [3, 15, 27])]
)
def test_of_a_long_run_every_so_many_th_step_is_read(store: Store, most: int, every: int, steps: list[int]) -> None:
    run_id = make.run(store).id
    for step in range(3, 33, 3):
        record(store, run_id, step, make.completion(reasoning_steps=step % 5))
    found = emergence.emergence(store, run_id, limit=most)
    assert found.every == every
    assert found.step.tolist() == steps
    assert found.mean_steps.tolist() == [step % 5 for step in steps]


def test_thinned_steps_are_put_together(store: Store) -> None:
    run_id = make.run(store).id
    for step in range(1, 11):
        record(store, run_id, step, *(make.completion(i, reasoning_steps=step, tokens=step) for i in range(step)))
    whole = emergence.emergence(store, run_id)
    part = emergence.thinned(whole, 4)
    assert part.step.tolist() == [1, 4, 7, 10]
    assert part.sums["n"].tolist() == [6, 15, 24, 10]
    assert part.reasoning_steps.sum() == whole.reasoning_steps.sum() == 55
    assert part.mean_tokens.tolist() == [2, 5, 8, 10]
    assert emergence.thinned(whole, 10) is whole


def test_a_run_that_samples_nothing_is_told_from_its_probes(store: Store) -> None:
    run_id = make.run(store).id
    ids = add_examples(store, [make.example(key, answer=1) for key in "ab"])
    for step, kind in ((0, "probe"), (10, "probe"), (10, "val")):
        words = {"benchmark": "b", "split": "val", "kind": kind, "step": step, "conditions": {}}
        evaluation = begin_evaluation(store, run_id, encoder=None, total=4, **words)
        rows = [make.prediction(id, sample, reasoning_steps=step, wellformed=True) for id in ids for sample in (0, 1)]
        record_predictions(store, evaluation, rows)
        finish_evaluation(store, evaluation, {})
    found = emergence.probe_emergence(store, run_id)
    assert found.step.tolist() == [0, 10]
    assert found.sums["n"].tolist() == [4, 4]
    assert found.excess.tolist() == [-1, 9]
    assert emergence.emergence(store, run_id).step.tolist() == []


def test_a_run_without_completions_has_no_steps(store: Store) -> None:
    run_id = make.run(store).id
    record_step(store, run_id, 1, {"loss": 1.0}, at=1.0)
    assert emergence.emergence(store, run_id).step.tolist() == []
    assert emergence.unsummarized_steps(store, run_id) == []
