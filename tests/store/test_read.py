"""What the dashboard asks of runs, their texts and their history."""

import time
from typing import Any

import pytest
from sqlalchemy import Engine, event

from store import read, traces, write
from store.engine import Store, StoreError, open_store
from store.schema import JobState
from tests.store import make


def evaluate(store: Store, run_id: int, kind: str, step: int, finish: bool = True, **metrics: float) -> int:
    conditions: dict[str, Any] = {"benchmark": "b", "split": "val", "conditions": {}, "encoder": None, "total": 1}
    evaluation = write.begin_evaluation(store, run_id, kind=kind, step=step, **conditions)
    if finish:
        write.finish_evaluation(store, evaluation, metrics)
    return evaluation


def statements(engine: Engine) -> list[str]:
    seen: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    return seen


def test_a_run_is_found_by_uid_or_unique_name(store: Store) -> None:
    first, second, third = make.run(store, "same"), make.run(store, "same"), make.run(store, "grpo-tiny")
    assert read.resolve(store, first.uid) == first.id
    assert read.resolve(store, "grpo-tiny") == third.id
    with pytest.raises(StoreError, match="2 runs are named 'same'") as error:
        read.resolve(store, "same")
    assert second.uid in str(error.value)
    with pytest.raises(StoreError, match="did you mean grpo-tiny"):
        read.resolve(store, "grpo-tyni")
    with pytest.raises(StoreError, match="list them with"):
        read.resolve(store, "completely other")


def test_the_accuracy_of_a_run_is_that_of_its_own_dataset(store: Store) -> None:
    run = make.run(store)
    conditions: dict[str, Any] = {"split": "test", "step": 3, "conditions": {}, "encoder": None, "total": 1}
    for kind, benchmark, score in (("test", "shapes-hard", 0.2), ("test", "shapes-simple", 0.9)):
        opened = write.begin_evaluation(store, run.id, kind=kind, benchmark=benchmark, **conditions)
        write.finish_evaluation(store, opened, {"exact_match": score})
        assert read.runs(store)[0].accuracy == score
    for kind, benchmark in (("test", "shapes-complex"), ("baseline", "shapes-simple")):
        opened = write.begin_evaluation(store, run.id, kind=kind, benchmark=benchmark, **conditions)
        write.finish_evaluation(store, opened, {"exact_match": 0.1})
        assert read.runs(store)[0].accuracy == 0.9


def test_the_runs_table(store: Store) -> None:
    run = make.run(store, max_steps=60, lora_rank=32)
    job_id = make.running_job(store, run.id)
    make.steps(store, run.id, 50)
    write.beat(store, job_id, "generating")
    evaluate(store, run.id, "val", 20, exact_match=0.2, n=100)
    evaluate(store, run.id, "val", 40, exact_match=0.4, exact_match_low=0.3, exact_match_high=0.5, n=100)
    evaluate(store, run.id, "probe", 50, exact_match=0.9, n=24)
    evaluate(store, run.id, "val", 50, finish=False)
    write.add_tag(store, run.id, "b")
    write.add_tag(store, run.id, "a")
    (row,) = read.runs(store)
    assert (row.uid, row.name, row.lora_rank, row.step, row.max_steps) == (run.uid, "demo", 32, 50, 60)
    assert (row.status, row.activity, row.host, row.heartbeat) == (JobState.RUNNING, "generating", "here", 1)
    assert (row.accuracy, row.accuracy_low, row.accuracy_high, row.accuracy_n) == (0.4, 0.3, 0.5, 100)
    assert (row.evaluation_kind, row.evaluation_step) == ("val", 40)
    assert row.tags == ("a", "b")
    assert row.seconds_per_step == pytest.approx(2.0)
    assert row.tokens_per_second == pytest.approx(50.0)
    assert len(row.sparkline) == 40
    assert row.sparkline[-1] == 1.0
    assert list(row.sparkline) == sorted(row.sparkline)


def test_a_run_without_anything(store: Store) -> None:
    make.run(store)
    (row,) = read.runs(store)
    assert (row.status, row.accuracy, row.seconds_per_step, row.tokens_per_second) == (None, None, None, None)
    assert (row.tags, row.sparkline) == ((), ())


def test_a_pause_does_not_change_the_pace(store: Store) -> None:
    run = make.run(store)
    for step in range(1, 12):
        write.record_step(store, run.id, step, {}, at=3600.0 * (step > 5) + step)
    assert read.runs(store)[0].seconds_per_step == 1.0


def test_an_sft_run_shows_the_rewards_of_its_probe(store: Store) -> None:
    run = make.run(store, method="sft")
    write.record_step(store, run.id, 50, {"loss": 1.0}, at=1.0)
    for step in (0, 25, 50):
        write.record_metrics(store, run.id, step, {"probe/reward": float(step)})
    assert set(read.runs(store)[0].sparkline) == {0.0, 25.0, 50.0}


def test_runs_are_newest_first_and_can_be_chosen(store: Store) -> None:
    first, second = make.run(store, "first"), make.run(store, "second", method="sft")
    write.add_tag(store, first.id, "keep")
    write.add_tag(store, second.id, "other")
    assert [row.name for row in read.runs(store)] == ["second", "first"]
    assert [row.name for row in read.runs(store, method="sft")] == ["second"]
    assert [row.name for row in read.runs(store, tag="keep")] == ["first"]
    write.remove_tag(store, first.id, "keep")
    assert read.runs(store, tag="keep") == []


def test_more_runs_are_not_more_queries(store: Store) -> None:
    counts = []
    for _ in range(2):
        make.steps(store, make.run(store).id, 3)
        seen = statements(store.engine)
        read.runs(store)
        counts.append(len(seen))
    assert counts[0] == counts[1] <= 6


def test_a_run_in_full(store: Store) -> None:
    parent = make.run(store)
    run = make.run(store, "child", parent_id=parent.id, config={"a": {"b": 1}}, seed=3)
    write.describe_run(store, run.id, environment={"torch": "2"}, prompt="Count.", note="n", sources={"r.py": "…"})
    write.add_tag(store, run.id, "t")
    training = write.add_job(store, run.id, "train", {})
    write.add_job(store, run.id, "evaluate", {})
    found = read.run(store, run.id)
    assert (found.name, found.config, found.prompt) == ("child", {"a": {"b": 1}}, "Count.")
    assert (found.environment, found.sources) == ({"torch": "2"}, {"r.py": "…"})
    assert (found.parent_id, found.seed, found.tags, found.note) == (parent.id, 3, ("t",), "n")
    assert found.job is not None
    assert (found.job.uid, found.status) == (training.uid, JobState.QUEUED)
    write.delete_run(store, parent.id)
    assert read.run(store, run.id).parent_id is None
    with pytest.raises(StoreError, match="no longer"):
        read.run(store, parent.id)


def test_deleting_a_run_removes_its_rows_and_no_others(store: Store) -> None:
    run, other = make.run(store), make.run(store, "other")
    ids = write.add_examples(store, [make.example()])
    for each in (run, other):
        make.steps(store, each.id, 3)
        write.record_step(store, each.id, 4, {}, at=1.0, completions=[make.completion(example_id=ids[0])])
        evaluation = evaluate(store, each.id, "val", 3, exact_match=1.0)
        write.record_predictions(store, evaluation, [make.prediction(ids[0])])
        write.set_checkpoint(store, each.id, kind="last", step=3, path="p")
        write.add_tag(store, each.id, "t")
        write.end_job(store, write.add_job(store, each.id, "train", {}).id, JobState.FINISHED)
    write.delete_run(store, run.id)
    assert [row.name for row in read.runs(store)] == ["other"]
    for find in (read.metric_names, read.completions, read.evaluations, read.events, read.checkpoints):
        assert find(store, run.id) == []
    assert len(read.completions(store, other.id)) == len(list(read.iter_predictions(store, other.id))) == 1
    assert set(read.examples(store, ids)) == set(ids)


def test_events_since_the_last_look(store: Store) -> None:
    run = make.run(store)
    for word in "ab":
        write.add_event(store, run.id, "note", word, step=3)
    first, second = read.events(store, run.id)
    assert (first.message, first.step, first.kind) == ("a", 3, "note")
    assert read.events(store, run.id, after_id=first.id) == [second]


def test_one_checkpoint_of_a_kind(store: Store) -> None:
    run = make.run(store)
    for step in (10, 20):
        write.set_checkpoint(store, run.id, kind="last", step=step, path=f"step-{step}")
    write.set_checkpoint(store, run.id, kind="best", step=10, path="best", value=0.5)
    assert [(row.kind, row.step, row.path, row.value) for row in read.checkpoints(store, run.id)] == [
        ("best", 10, "best", 0.5),
        ("last", 20, "step-20", None),
    ]
    assert [event.kind for event in read.events(store, run.id)] == ["checkpoint", "checkpoint", "best"]


def test_the_last_checkpoint_may_be_the_best_too(store: Store) -> None:
    run = make.run(store)
    write.set_checkpoint(store, run.id, kind="last", step=4, path="p", value=0.5, is_best=True)
    assert {(row.kind, row.step, row.value) for row in read.checkpoints(store, run.id)} == {
        ("last", 4, 0.5),
        ("best", 4, 0.5),
    }
    assert [event.kind for event in read.events(store, run.id)] == ["checkpoint", "best"]


def test_a_commit_elsewhere_is_noticed(store: Store, reader: Store) -> None:
    before = read.data_version(reader)
    assert read.data_version(reader) == before
    make.run(store)
    assert read.data_version(reader) != before


def test_groups_of_a_step(store: Store) -> None:
    run = make.run(store)
    ids = write.add_examples(store, [make.example("a"), make.example("b", answer=2)])
    rows = [make.completion(index, group=group, example_id=ids[group]) for index in (1, 0) for group in (1, 0)]
    write.record_step(store, run.id, 1, {}, at=1.0, completions=rows)
    loose = [make.completion(index, group=None) for index in range(2)]
    write.record_step(store, run.id, 2, {}, at=1.0, completions=loose)
    first, second = read.groups(store, run.id, 1)
    assert first.example is not None
    assert (first.group, first.example.key, second.group) == (0, "a", 1)
    assert [row.index for row in first.completions] == [0, 1]
    assert second.completions[0].truth == 2
    assert second.completions[0].example == "shapes-simple/train/b"
    (third,) = read.groups(store, run.id, 2)
    assert (third.group, third.example, len(third.completions)) == (None, None, 2)
    assert read.groups(store, run.id, 3) == []
    assert read.step_bounds(store, run.id) == (1, 2, 2)


def test_completions_can_be_searched(store: Store) -> None:
    run, other = make.run(store), make.run(store)
    (id,) = write.add_examples(store, [make.example()])
    odd = make.completion(1, text="100% _Sure_", wellformed=False, think=None, answer_span=None, correct=False)
    for step in (1, 2):
        rows = [make.completion(0, example_id=id), odd]
        write.record_step(store, run.id, step, {}, at=1.0, completions=rows)
    write.record_step(store, other.id, 1, {}, at=1.0, completions=[make.completion(example_id=id)])
    assert len(read.completions(store, run.id)) == 4
    assert [row.step for row in read.completions(store, run.id, steps=(2, 9))] == [2, 2]
    assert [row.index for row in read.completions(store, run.id, wellformed=True)] == [0, 0]
    assert [row.index for row in read.completions(store, run.id, correct=False, limit=1)] == [1]
    assert len(read.completions(store, run.id, contains="% _sure")) == 2
    assert read.completions(store, run.id, contains="%sure") == []
    assert [row.run_id for row in read.completions(store, None, example_id=id)] == [run.id, run.id, other.id]
    assert [row.step for row in read.completions(store, run.id, limit=2, offset=2)] == [2, 2]
    first = read.completions(store, run.id)[0]
    assert read.completion(store, first.id) == first
    with pytest.raises(StoreError, match="no longer"):
        read.completion(store, 999)
    assert read.step_bounds(store, 999) is None


def test_long_exports_come_page_by_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "PAGE", 3)
    run = make.run(store)
    ids = write.add_examples(store, [make.example(str(key)) for key in range(7)])
    for step in (2, 1, 3):
        write.record_step(store, run.id, step, {}, at=1.0, completions=[make.completion(index) for index in range(4)])
    evaluation = evaluate(store, run.id, "val", 3)
    write.record_predictions(store, evaluation, [make.prediction(id) for id in ids])
    write.record_predictions(store, evaluate(store, run.id, "val", 0), [make.prediction(id) for id in ids[:3]])
    found = [(row.step, row.index) for row in read.iter_completions(store, run.id)]
    assert found == [(step, index) for step in (1, 2, 3) for index in range(4)]
    assert [(row.step, row.example_id) for row in read.iter_predictions(store, run.id)] == [
        *((0, id) for id in ids[:3]),
        *((3, id) for id in ids),
    ]


def test_a_thousand_runs_are_a_matter_of_a_moment(store: Store) -> None:
    for number in range(1000):
        make.run(store, f"run {number}")
    reader = open_store(store.url, readonly=True)
    start = time.perf_counter()
    assert len(read.runs(reader)) == 1000
    assert time.perf_counter() - start < 3
    reader.close()
