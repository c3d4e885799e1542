"""What the dashboard asks of runs, their texts and their history."""

import time
from typing import Any

import pytest
from sqlalchemy import Engine, event

from store.completions import rows
from store.completions.rows import get_completion, get_step_bounds, iter_completions, list_completions, list_groups
from store.db.engine import Store, StoreError, open_store
from store.db.states import JobState
from store.evaluations import predictions
from store.evaluations.predictions import iter_predictions
from store.evaluations.records import begin_evaluation, finish_evaluation, list_evaluations, record_predictions
from store.events import add_event, list_checkpoints, list_events, set_checkpoint
from store.examples import add_examples, get_examples
from store.jobs import add_job, beat_job, end_job
from store.metrics import list_metric_names
from store.runs import add_tag, delete_run, describe_run, get_run, list_runs, remove_tag, resolve_run
from store.steps import record_metrics, record_step
from tests.store import make


def evaluate(store: Store, run_id: int, kind: str, step: int, finish: bool = True, **metrics: float) -> int:
    conditions: dict[str, Any] = {"benchmark": "b", "split": "val", "conditions": {}, "encoder": None, "total": 1}
    evaluation = begin_evaluation(store, run_id, kind=kind, step=step, **conditions)
    if finish:
        finish_evaluation(store, evaluation, metrics)
    return evaluation


def statements(engine: Engine) -> list[str]:
    seen: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    return seen


def test_a_run_is_found_by_uid_or_unique_name(store: Store) -> None:
    first, second, third = make.run(store, "same"), make.run(store, "same"), make.run(store, "grpo-tiny")
    assert resolve_run(store, first.uid) == first.id
    assert resolve_run(store, "grpo-tiny") == third.id
    with pytest.raises(StoreError, match="2 runs are named 'same'") as error:
        resolve_run(store, "same")
    assert second.uid in str(error.value)
    with pytest.raises(StoreError, match="did you mean grpo-tiny"):
        resolve_run(store, "grpo-tyni")
    with pytest.raises(StoreError, match="list them with"):
        resolve_run(store, "completely other")


def test_the_accuracy_of_a_run_is_that_of_its_own_dataset(store: Store) -> None:
    run = make.run(store)
    conditions: dict[str, Any] = {"split": "test", "step": 3, "conditions": {}, "encoder": None, "total": 1}
    for kind, benchmark, score in (("test", "shapes-hard", 0.2), ("test", "shapes-simple", 0.9)):
        opened = begin_evaluation(store, run.id, kind=kind, benchmark=benchmark, **conditions)
        finish_evaluation(store, opened, {"exact_match": score})
        assert list_runs(store)[0].accuracy == score
    for kind, benchmark in (("test", "shapes-complex"), ("baseline", "shapes-simple")):
        opened = begin_evaluation(store, run.id, kind=kind, benchmark=benchmark, **conditions)
        finish_evaluation(store, opened, {"exact_match": 0.1})
        assert list_runs(store)[0].accuracy == 0.9


def test_the_runs_table(store: Store) -> None:
    run = make.run(store, max_steps=60, lora_rank=32)
    job_id = make.running_job(store, run.id)
    make.steps(store, run.id, 50)
    beat_job(store, job_id, "generating")
    evaluate(store, run.id, "val", 20, exact_match=0.2, n=100)
    evaluate(store, run.id, "val", 40, exact_match=0.4, exact_match_low=0.3, exact_match_high=0.5, n=100)
    evaluate(store, run.id, "probe", 40, exact_match=0.9, n=24)
    evaluate(store, run.id, "val", 50, finish=False)
    add_tag(store, run.id, "b")
    add_tag(store, run.id, "a")
    (row,) = list_runs(store)
    assert (row.uid, row.name, row.lora_rank, row.step, row.max_steps) == (run.uid, "demo", 32, 50, 60)
    assert (row.status, row.activity, row.host, row.heartbeat) == (JobState.RUNNING, "generating", "here", 1)
    assert (row.accuracy, row.accuracy_low, row.accuracy_high, row.accuracy_n) == (0.4, 0.3, 0.5, 100)
    assert (row.evaluation_kind, row.evaluation_step) == ("val", 40)
    evaluate(store, run.id, "probe", 50, exact_match=0.9, n=24)
    newer = list_runs(store)[0]
    assert (newer.accuracy, newer.accuracy_n, newer.evaluation_kind, newer.evaluation_step) == (0.9, 24, "probe", 50)
    assert row.tags == ("a", "b")
    assert row.seconds_per_step == pytest.approx(2.0)
    assert row.tokens_per_second == pytest.approx(50.0)
    assert len(row.sparkline) == 40
    assert row.sparkline[-1] == 1.0
    assert list(row.sparkline) == sorted(row.sparkline)


def test_a_run_without_anything(store: Store) -> None:
    make.run(store)
    (row,) = list_runs(store)
    assert (row.status, row.accuracy, row.seconds_per_step, row.tokens_per_second) == (None, None, None, None)
    assert (row.tags, row.sparkline) == ((), ())


def test_a_pause_does_not_change_the_pace(store: Store) -> None:
    run = make.run(store)
    for step in range(1, 12):
        record_step(store, run.id, step, {}, at=3600.0 * (step > 5) + step)
    assert list_runs(store)[0].seconds_per_step == 1.0


def test_an_sft_run_shows_the_rewards_of_its_probe(store: Store) -> None:
    run = make.run(store, method="sft")
    record_step(store, run.id, 50, {"loss": 1.0}, at=1.0)
    for step in (0, 25, 50):
        record_metrics(store, run.id, step, {"probe/reward": float(step)})
    assert set(list_runs(store)[0].sparkline) == {0.0, 25.0, 50.0}


def test_runs_are_newest_first_and_can_be_chosen(store: Store) -> None:
    first, second = make.run(store, "first"), make.run(store, "second", method="sft")
    add_tag(store, first.id, "keep")
    add_tag(store, second.id, "other")
    assert [row.name for row in list_runs(store)] == ["second", "first"]
    assert [row.name for row in list_runs(store, method="sft")] == ["second"]
    assert [row.name for row in list_runs(store, tag="keep")] == ["first"]
    remove_tag(store, first.id, "keep")
    assert list_runs(store, tag="keep") == []


def test_more_runs_are_not_more_queries(store: Store) -> None:
    counts = []
    for _ in range(2):
        make.steps(store, make.run(store).id, 3)
        seen = statements(store.engine)
        list_runs(store)
        counts.append(len(seen))
    assert counts[0] == counts[1] <= 6


def test_a_run_in_full(store: Store) -> None:
    parent = make.run(store)
    run = make.run(store, "child", parent_id=parent.id, config={"a": {"b": 1}}, seed=3)
    describe_run(store, run.id, environment={"torch": "2"}, prompt="Count.", note="n", sources={"r.py": "…"})
    add_tag(store, run.id, "t")
    training = add_job(store, run.id, "train", {})
    add_job(store, run.id, "evaluate", {})
    found = get_run(store, run.id)
    assert (found.name, found.config, found.prompt) == ("child", {"a": {"b": 1}}, "Count.")
    assert (found.environment, found.sources) == ({"torch": "2"}, {"r.py": "…"})
    assert (found.parent_id, found.seed, found.tags, found.note) == (parent.id, 3, ("t",), "n")
    assert found.job is not None
    assert (found.job.uid, found.status) == (training.uid, JobState.QUEUED)
    delete_run(store, parent.id)
    assert get_run(store, run.id).parent_id is None
    with pytest.raises(StoreError, match="no longer"):
        get_run(store, parent.id)


def test_deleting_a_run_removes_its_rows_and_no_others(store: Store) -> None:
    run, other = make.run(store), make.run(store, "other")
    ids = add_examples(store, [make.example()])
    for each in (run, other):
        make.steps(store, each.id, 3)
        record_step(store, each.id, 4, {}, at=1.0, completions=[make.completion(example_id=ids[0])])
        evaluation = evaluate(store, each.id, "val", 3, exact_match=1.0)
        record_predictions(store, evaluation, [make.prediction(ids[0])])
        set_checkpoint(store, each.id, kind="last", step=3, path="p")
        add_tag(store, each.id, "t")
        end_job(store, add_job(store, each.id, "train", {}).id, JobState.FINISHED)
    delete_run(store, run.id)
    assert [row.name for row in list_runs(store)] == ["other"]
    for find in (list_metric_names, list_completions, list_evaluations, list_events, list_checkpoints):
        assert find(store, run.id) == []
    assert len(list_completions(store, other.id)) == len(list(iter_predictions(store, other.id))) == 1
    assert set(get_examples(store, ids)) == set(ids)


def test_events_since_the_last_look(store: Store) -> None:
    run = make.run(store)
    for word in "ab":
        add_event(store, run.id, "note", word, step=3)
    first, second = list_events(store, run.id)
    assert (first.message, first.step, first.kind) == ("a", 3, "note")
    assert list_events(store, run.id, after_id=first.id) == [second]


def test_one_checkpoint_of_a_kind(store: Store) -> None:
    run = make.run(store)
    for step in (10, 20):
        set_checkpoint(store, run.id, kind="last", step=step, path=f"step-{step}")
    set_checkpoint(store, run.id, kind="best", step=10, path="best", value=0.5)
    assert [(row.kind, row.step, row.path, row.value) for row in list_checkpoints(store, run.id)] == [
        ("best", 10, "best", 0.5),
        ("last", 20, "step-20", None),
    ]
    assert [event.kind for event in list_events(store, run.id)] == ["checkpoint", "checkpoint", "best"]


def test_the_last_checkpoint_may_be_the_best_too(store: Store) -> None:
    run = make.run(store)
    set_checkpoint(store, run.id, kind="last", step=4, path="p", value=0.5, is_best=True)
    assert {(row.kind, row.step, row.value) for row in list_checkpoints(store, run.id)} == {
        ("last", 4, 0.5),
        ("best", 4, 0.5),
    }
    assert [event.kind for event in list_events(store, run.id)] == ["checkpoint", "best"]


def test_groups_of_a_step(store: Store) -> None:
    run = make.run(store)
    ids = add_examples(store, [make.example("a"), make.example("b", answer=2)])
    rows = [make.completion(index, group=group, example_id=ids[group]) for index in (1, 0) for group in (1, 0)]
    record_step(store, run.id, 1, {}, at=1.0, completions=rows)
    loose = [make.completion(index, group=None) for index in range(2)]
    record_step(store, run.id, 2, {}, at=1.0, completions=loose)
    first, second = list_groups(store, run.id, 1)
    assert first.example is not None
    assert (first.group, first.example.key, second.group) == (0, "a", 1)
    assert [row.index for row in first.completions] == [0, 1]
    assert second.completions[0].truth == 2
    assert second.completions[0].example == "shapes-simple/train/b"
    (third,) = list_groups(store, run.id, 2)
    assert (third.group, third.example, len(third.completions)) == (None, None, 2)
    assert list_groups(store, run.id, 3) == []
    assert get_step_bounds(store, run.id) == (1, 2, 2)


def test_completions_can_be_searched(store: Store) -> None:
    run, other = make.run(store), make.run(store)
    (id,) = add_examples(store, [make.example()])
    odd = make.completion(1, text="100% _Sure_", wellformed=False, think=None, answer_span=None, correct=False)
    for step in (1, 2):
        rows = [make.completion(0, example_id=id), odd]
        record_step(store, run.id, step, {}, at=1.0, completions=rows)
    record_step(store, other.id, 1, {}, at=1.0, completions=[make.completion(example_id=id)])
    assert len(list_completions(store, run.id)) == 4
    assert [row.step for row in list_completions(store, run.id, steps=(2, 9))] == [2, 2]
    assert [row.index for row in list_completions(store, run.id, wellformed=True)] == [0, 0]
    assert [row.index for row in list_completions(store, run.id, correct=False, limit=1)] == [1]
    assert len(list_completions(store, run.id, contains="% _sure")) == 2
    assert list_completions(store, run.id, contains="%sure") == []
    assert [row.run_id for row in list_completions(store, None, example_id=id)] == [run.id, run.id, other.id]
    assert [row.step for row in list_completions(store, run.id, limit=2, offset=2)] == [2, 2]
    first = list_completions(store, run.id)[0]
    assert get_completion(store, first.id) == first
    with pytest.raises(StoreError, match="no longer"):
        get_completion(store, 999)
    assert get_step_bounds(store, 999) is None


def test_long_exports_come_page_by_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PAGE", 3)
    monkeypatch.setattr(predictions, "PAGE", 3)
    run = make.run(store)
    ids = add_examples(store, [make.example(str(key)) for key in range(7)])
    for step in (2, 1, 3):
        record_step(store, run.id, step, {}, at=1.0, completions=[make.completion(index) for index in range(4)])
    evaluation = evaluate(store, run.id, "val", 3)
    record_predictions(store, evaluation, [make.prediction(id) for id in ids])
    record_predictions(store, evaluate(store, run.id, "val", 0), [make.prediction(id) for id in ids[:3]])
    found = [(row.step, row.index) for row in iter_completions(store, run.id)]
    assert found == [(step, index) for step in (1, 2, 3) for index in range(4)]
    assert [(row.step, row.example_id) for row in iter_predictions(store, run.id)] == [
        *((0, id) for id in ids[:3]),
        *((3, id) for id in ids),
    ]


def test_a_thousand_runs_are_a_matter_of_a_moment(store: Store) -> None:
    for number in range(1000):
        make.run(store, f"run {number}")
    reader = open_store(store.url, readonly=True)
    start = time.perf_counter()
    assert len(list_runs(reader)) == 1000
    assert time.perf_counter() - start < 3
    reader.close()
