"""Sides of a drift page: what they share, whether they are apart, what is read first, and which are chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.drift import defaults, sides, verdict
from app.drift.reads import PairedAnswers
from app.drift.sides import Side, SideAnswers
from store.db.engine import Store
from store.db.rows import CheckpointRow, EvaluationRow, RunRow, Scores
from store.evaluations.predictions import GreedyText, list_greedy_texts, list_predictions, read_scores
from store.evaluations.records import list_evaluations
from tests import compared, seeded

REST = {"conditions": {}, "conditions_hash": "", "total": 1, "done": 1, "metrics": {}, "started_at": 0.0}


def run(id: int, method: str, **changes: Any) -> RunRow:
    values = {name: None for name in RunRow.__dataclass_fields__ if name not in ("tags", "seconds_per_step")}
    own = {"id": id, "uid": f"u{id}", "name": f"run {id}", "method": method, "style": "cot", "model": "tiny"}
    return RunRow(**(values | own | {"dataset": "shapes-simple", "lora_rank": 32} | changes))  # type: ignore[arg-type]


def evaluation(id: int, run_id: int, kind: str = "test", step: int = 9, **changes: Any) -> EvaluationRow:
    own = {"id": id, "run_id": run_id, "benchmark": "shapes-simple", "split": "test", "kind": kind, "step": step}
    return EvaluationRow(**(REST | own | {"encoder": "e", "ended_at": 1.0} | changes))  # type: ignore[arg-type]


def answered(
    ids: list[int], correct: list[float], similarity: list[float], texts: list[str] | None = None
) -> SideAnswers:
    n = len(ids)
    said = texts or ["<think>x</think>"] * n
    return SideAnswers(
        Scores(
            1,
            np.array(ids),
            np.array(ids) + 100,
            np.array([f"image {id}" for id in ids]),
            np.ones(n),
            np.ones(n),
            np.array(correct, float),
            np.array(similarity, float),
        ),
        [GreedyText(id, text, None, True, 2, 5) for id, text in zip(ids, said, strict=True)],
    )


def test_only_what_all_sides_answered_is_shared() -> None:
    first = answered([1, 2, 3, 5], [1, 0, 1, 1], [0.1, 0.2, 0.3, 0.5])
    second = answered([2, 3, 4], [1, 1, 0], [0.7, 0.8, 0.9], ["a", "<answer>b</answer>", "c"])
    shared = sides.share([first, second])
    assert shared.example_id.tolist() == [2, 3]
    assert shared.correct.tolist() == [[0, 1], [1, 1]]
    assert shared.similarity.tolist() == [[0.2, 0.3], [0.7, 0.8]]
    assert shared.prediction_id.tolist() == [[102, 103], [102, 103]]
    assert shared.texts[1] == ("a", "b")
    assert sides.unshared_note(shared, ["SFT", "GRPO"]) == (
        "Only the 2 questions that all of them answered are compared (SFT answered 4, GRPO answered 3)."
    )
    assert sides.unshared_note(sides.share([first, first]), ["a", "b"]) is None


def test_the_verdict_is_of_the_shared_examples() -> None:
    rng = np.random.default_rng(0)
    ids = list(range(80))
    near, far = rng.normal(0.9, 0.05, 80), rng.normal(0.6, 0.05, 80)
    right, wrong = [1.0] * 72 + [0.0] * 8, [1.0] * 40 + [0.0] * 40
    found = sides.verdict(sides.share([answered(ids, right, near.tolist()), answered(ids, wrong, far.tolist())]))
    assert found is not None and found.similarity is not None
    assert found.n == 80 and found.standings[0].accuracy.value == 0.9
    assert found.accuracy.value == pytest.approx(-0.4)
    difference = far - near
    assert found.similarity.value == pytest.approx(difference.mean())
    # A paired bootstrap of the mean agrees with the normal interval of the differences.
    half = 1.96 * difference.std() / np.sqrt(80)
    assert found.similarity.high - found.similarity.low == pytest.approx(2 * half, rel=0.15)
    told = sides.sentence(found, "SFT", "GRPO")
    assert told.startswith("SFT and GRPO drifted apart: the thinking of GRPO is 0.3")
    assert "SFT is right more often (GRPO minus SFT: -40.0 points" in told


@pytest.mark.parametrize(
    ("spread", "shift", "words"),
    [
        (0.01, 0.0, "equally close to the reference"),
        (0.5, 0.05, "do not show whether"),
        (float("nan"), 0.0, "is not embedded"),
    ],
)
def test_what_is_not_sure_is_not_claimed(spread: float, shift: float, words: str) -> None:
    rng = np.random.default_rng(1)
    ids, right = list(range(60)), [1.0] * 60
    own, other = rng.normal(0.7, spread, 60), rng.normal(0.7 + shift, spread, 60)
    found = sides.verdict(sides.share([answered(ids, right, own.tolist()), answered(ids, right, other.tolist())]))
    assert found is not None
    told = sides.sentence(found, "A", "B")
    assert words in told and "accuracies do not differ significantly" in told


def test_what_limits_a_comparison_is_said() -> None:
    one, other = Side(run(1, "sft"), evaluation(1, 1)), Side(run(2, "grpo"), evaluation(2, 2))
    loose = answered([1, 2], [1, 1], [0.1, 0.1])
    loose = loose._replace(texts=[text._replace(wellformed=False) for text in loose.texts])
    shared = sides.share([answered([1, 2], [1, 1], [0.9, 0.9]), loose])
    found, reading = sides.verdict(shared), PairedAnswers(shared, {}, sides.answer_gaps(shared), "e")
    assert found is not None
    (note,) = verdict.notes([one, other], ["SFT", "GRPO"], found, reading)
    assert (
        note.startswith("2 shared questions. SFT imitates")
        and "Many answers of GRPO are malformed and count as the word NULL" in note
    )
    shorter = Side(other.run, evaluation(2, 2, conditions={"decoding": {"max_tokens": 40}}))
    (note,) = verdict.notes([one, shorter], ["SFT", "GRPO"], found, reading)
    assert "Their conditions differ: token limit none vs 40." in note


def test_nothing_in_common_has_no_verdict() -> None:
    assert sides.verdict(sides.share([answered([1], [1], [1]), answered([2], [1], [1])])) is None


def test_the_orders_of_reading() -> None:
    first = answered([1, 2, 3, 4], [1, 0, 0, 1], [0.9, 0.9, 0.9, 0.9])
    second = answered([1, 2, 3, 4], [1, 1, 0, 0], [0.8, 0.2, 0.5, 0.3])
    shared = sides.share([first, second])
    gap = sides.answer_gaps(shared)
    assert sides.order(shared, gap, "drift") == [2, 4, 3, 1]
    assert sides.order(shared, gap, "similar") == [1, 3, 4, 2]
    assert sides.order(shared, gap, "second") == [2]
    assert sides.order(shared, gap, "first") == [4]
    assert sides.order(shared, gap, "wrong") == [3]
    assert sorted(sides.order(shared, gap, "random")) == [1, 2, 3, 4]
    assert sides.order(shared, gap, "random") == sides.order(shared, gap, "random")
    assert sides.order(shared, gap, "drift", keep=np.array([True, False, True, False])) == [3, 1]


def test_without_similarities_words_tell_what_is_apart() -> None:
    unknown = [float("nan")] * 2
    first = answered([1, 2], [1, 1], unknown, ["two red circles", "one"])
    second = answered([1, 2], [1, 1], unknown, ["two blue circles", "none at all"])
    assert sides.answer_gaps(sides.share([first, second])).tolist() == [pytest.approx(1 - 2 / 4), 1.0]


def test_names_are_as_short_as_they_can_be() -> None:
    one, other = run(1, "sft"), run(2, "grpo")
    assert sides.names([Side(one, evaluation(1, 1)), Side(other, evaluation(2, 2))]) == ["SFT", "GRPO"]
    wide = run(3, "grpo", lora_rank=64)
    assert sides.names([Side(other, evaluation(1, 2)), Side(wide, evaluation(2, 3))]) == ["GRPO r32", "GRPO r64"]
    checkpoints = [Side(other, evaluation(1, 2, step=0)), Side(other, evaluation(2, 2, step=9))]
    assert sides.names(checkpoints) == ["GRPO step 0", "GRPO step 9"]
    twice = [Side(other, evaluation(1, 2)), Side(other, evaluation(2, 2))]
    assert len(set(sides.names(twice))) == 2


def test_a_run_is_paired_with_another_method_of_its_kind() -> None:
    grpo, other_model = run(1, "grpo"), run(2, "sft", model="large")
    base, wide, same = run(3, "none"), run(4, "sft", lora_rank=64), run(5, "sft")
    runs = [other_model, base, wide, same, grpo]
    assert defaults.pair(runs, None) == [same, grpo]
    assert defaults.pair(runs, wide) == [wide, grpo]
    assert defaults.pair(runs, other_model) == [other_model]
    assert defaults.pair([], None) == []


def test_the_sides_are_the_tests_of_what_validation_chose() -> None:
    one, other = run(1, "sft"), run(2, "grpo")
    evaluations = {
        1: [evaluation(1, 1, "val", split="val"), evaluation(2, 1), evaluation(3, 1, benchmark="shapes-hard")],
        2: [evaluation(4, 2, step=5), evaluation(5, 2), evaluation(6, 2, "baseline"), evaluation(7, 2, ended_at=None)],
    }
    best = [CheckpointRow(id=1, run_id=2, kind="best", step=5, path="", value=0.5, created_at=0.0)]
    found = defaults.sides([one, other], evaluations, {1: [], 2: best})
    assert [side.evaluation.id for side in found] == [2, 4]
    assert defaults.sides([one, other], evaluations, {1: [], 2: []})[1].evaluation.id == 5


def test_a_run_alone_is_held_against_its_own_beginning() -> None:
    rows = [evaluation(i, 1, "val", step) for i, step in ((1, 0), (2, 50), (3, 100))]
    found = defaults.sides([run(1, "grpo")], {1: rows}, {1: []})
    assert [side.evaluation.step for side in found] == [0, 100]
    assert defaults.sides([run(1, "grpo")], {1: rows[:1]}, {1: []}) == []


def test_greedy_texts_stand_beside_their_scores(empty_store: Store) -> None:
    compared.fill(empty_store, replace(compared.TABLES, ranks=(32,)), n=6)
    grpo = seeded.find(empty_store, "grpo-cot-tiny-r32-s0")
    for each in list_evaluations(empty_store, grpo.id):
        texts = list_greedy_texts(empty_store, each.id)
        assert [one.example_id for one in texts] == read_scores(empty_store, each.id).example_id.tolist()
        stored = list_predictions(empty_store, each.id)
        assert [(one.text, one.think, one.reasoning_steps) for one in texts] == [
            (p.text, p.think, p.reasoning_steps) for p in stored
        ]
