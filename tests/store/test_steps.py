"""What a trainer records each step comes back, whatever it is made of."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.completions import emergence
from store.completions.rows import get_step_bounds, list_completions, list_groups
from store.db.engine import Store, StoreError, open_store
from store.db.states import JobState
from store.evaluations.records import begin_evaluation, list_evaluations
from store.events import add_event, list_checkpoints, set_checkpoint
from store.jobs import ask_stop, list_jobs
from store.metrics import list_metric_names, read_clock, read_series
from store.runs import add_tag, delete_run, get_run
from store.steps import record_metrics, record_step, truncate_after
from tests.store import make

ANY = st.characters(codec=None, exclude_categories=())
TEXT = st.text(ANY, max_size=60) | st.sampled_from(["\0", "\ud800x", "😀\udfff"])

EVALUATION: dict[str, Any] = {
    "benchmark": "b",
    "split": "val",
    "kind": "val",
    "conditions": {},
    "encoder": None,
    "total": 0,
}


def values(store: Store, run_id: int, name: str) -> dict[int, float]:
    curve = read_series(store, run_id, [name])[name]
    return dict(zip(curve.step.tolist(), curve.value.tolist(), strict=True))


def test_a_step_is_recorded_whole(store: Store) -> None:
    run = make.run(store)
    rows = [make.completion(index, group=group) for group in range(2) for index in range(4)]
    record_step(store, run.id, 1, {"reward": 0.5, "kl": None}, at=10.0, tokens=64, completions=rows)
    assert values(store, run.id, "reward") == {1: 0.5}
    assert math.isnan(values(store, run.id, "kl")[1])
    assert read_clock(store, run.id).at.tolist() == [10.0]
    assert read_clock(store, run.id).tokens.tolist() == [64.0]
    assert get_run(store, run.id).step == 1
    stored = list_completions(store, run.id)
    assert [(row.group, row.index) for row in stored] == [(row.group, row.index) for row in rows]
    assert stored[0].think_text == "1. red"
    assert stored[0].rewards == {"format": 1.0}


def test_what_a_step_has_stays_when_more_of_it_is_recorded(store: Store) -> None:
    run = make.run(store)
    for step in (1, 2):
        record_step(store, run.id, step, {"a": 1.0, "b": 1.0}, at=1.0, tokens=9, completions=[make.completion()])
    record_step(store, run.id, 1, {"eval_a": 3.0}, at=None)
    record_step(store, run.id, 1, {"a": 2.0}, at=3.0, completions=[make.completion(7, generation=1)])
    assert values(store, run.id, "a") == {1: 2.0, 2: 1.0}
    assert values(store, run.id, "b") == {1: 1.0, 2: 1.0}
    assert values(store, run.id, "eval_a") == {1: 3.0}
    assert [row.index for row in list_completions(store, run.id, steps=(1, 1))] == [0, 7]
    assert read_clock(store, run.id).at.tolist() == [3.0, 1.0]
    assert read_clock(store, run.id).tokens.tolist() == [9.0, 9.0]
    assert get_run(store, run.id).step == 2
    assert emergence.emergence(store, run.id).sums["n"].tolist() == [2.0, 1.0]


def test_a_generation_that_is_recorded_again_replaces_itself(store: Store) -> None:
    run = make.run(store)
    for texts in (("a", "b"), ("c", "d")):
        rows = [make.completion(index, text=text) for index, text in enumerate(texts)]
        record_step(store, run.id, 1, {"a": 1.0}, at=1.0, completions=rows)
    assert [row.text for row in list_completions(store, run.id)] == ["c", "d"]
    assert emergence.emergence(store, run.id).sums["n"].tolist() == [2.0]


def test_groups_of_two_generations_are_not_one(store: Store) -> None:
    """Older recorders began each generation's groups at 0; one step may hold several."""
    run = make.run(store)
    rows = [
        make.completion(index, generation=generation, reward=float(generation), rewards={"format": float(generation)})
        for generation in range(2)
        for index in range(4)
    ]
    for part in (rows, rows[:4], rows[4:]):
        record_step(store, run.id, 1, {}, at=1.0, completions=part)
        assert [len(group.completions) for group in list_groups(store, run.id, 1)] == [4, 4]
        found = emergence.emergence(store, run.id)
        assert found.groups["right"].tolist() == [2.0], "each group's rewards are all the same"
        assert found.sums["variance"].tolist() == [0.0]


def test_a_metric_of_a_very_long_name_is_kept_under_one_of_its_own(store: Store) -> None:
    run = make.run(store)
    long = "probe/" + "deep/" * 60
    record_step(store, run.id, 1, {f"{long}a": 1.0, f"{long}b": 2.0, "loss": 0.5}, at=1.0)
    names = list_metric_names(store, run.id)
    assert len(names) == 3 and max(map(len, names)) <= 200
    assert sorted(values(store, run.id, name)[1] for name in names) == [0.5, 1.0, 2.0]


def test_metrics_can_be_added_before_and_after_their_step(store: Store) -> None:
    run = make.run(store)
    record_metrics(store, run.id, 0, {"val/accuracy": 0.1})
    record_metrics(store, run.id, 1, {"val/accuracy": 0.2})
    record_step(store, run.id, 1, {"reward": 1.0}, at=1.0)
    record_metrics(store, run.id, 1, {"val/accuracy": 0.3})
    record_metrics(store, run.id, 1, {})
    assert values(store, run.id, "val/accuracy") == {0: 0.1, 1: 0.3}
    assert read_clock(store, run.id).step.tolist() == [1]


def test_truncation_forgets_only_what_came_later(store: Store) -> None:
    run, other = make.run(store), make.run(store)
    for each in (run, other):
        for step in range(1, 6):
            record_step(store, each.id, step, {"a": step}, at=1.0, completions=[make.completion()])
            begin_evaluation(store, each.id, step=step, **EVALUATION)
        set_checkpoint(store, each.id, kind="last", step=3, path="checkpoint-3")
        set_checkpoint(store, each.id, kind="best", step=4, path="checkpoint-4")
    truncate_after(store, run.id, 3)
    assert list(values(store, run.id, "a")) == [1, 2, 3]
    assert read_clock(store, run.id).step.tolist() == [1, 2, 3]
    assert get_step_bounds(store, run.id) == (1, 3, 3)
    assert [row.step for row in list_evaluations(store, run.id)] == [1, 2, 3]
    assert [row.kind for row in list_checkpoints(store, run.id)] == ["last"]
    assert get_run(store, run.id).step == 3
    assert len(values(store, other.id, "a")) == len(list_evaluations(store, other.id)) == 5


def test_the_wish_to_stop_reaches_the_trainer_with_the_step(store: Store) -> None:
    run = make.run(store)
    job_id = make.running_job(store, run.id)
    assert record_step(store, run.id, 1, {}, at=1.0, job_id=job_id) == 0
    ask_stop(store, job_id, 2)
    assert record_step(store, run.id, 2, {}, at=2.0, job_id=job_id) == 2
    job = list_jobs(store)[0]
    assert (job.heartbeat, job.activity, job.state) == (2, "training", JobState.STOPPING)


def test_a_run_that_is_gone_is_a_sentence(store: Store) -> None:
    with pytest.raises(StoreError, match="no longer in"):
        record_step(store, 99, 1, {"a": 1.0}, at=1.0)
    assert list_metric_names(store, 99) == []


def test_metric_names_stay_known_over_stores(store: Store) -> None:
    run = make.run(store)
    record_step(store, run.id, 1, {"a": 1.0}, at=1.0)
    again = open_store(store.url)
    record_step(again, run.id, 2, {"b": 1.0, "a": 2.0}, at=1.0)
    record_step(store, run.id, 3, {"b": 3.0}, at=1.0)
    again.close()
    assert list_metric_names(store, run.id) == ["a", "b"]
    assert values(store, run.id, "b") == {2: 1.0, 3: 3.0}


@settings(max_examples=40, deadline=None)
@given(metrics=st.dictionaries(TEXT, st.floats() | st.none(), max_size=5), text=TEXT, names=st.lists(TEXT, max_size=3))
def test_no_text_and_no_number_makes_a_write_fail(
    shared: Store, metrics: dict[str, float | None], text: str, names: list[str]
) -> None:
    run = make.run(shared, text, config={text: [text, math.inf, {text: math.nan}]})
    row = make.completion(text=text, reward=math.nan, advantage=-math.inf, rewards=dict.fromkeys(names, math.inf))
    record_step(shared, run.id, 1, metrics, at=1.0, completions=[row])
    add_event(shared, run.id, "note", text)
    add_tag(shared, run.id, text)
    found = read_series(shared, run.id, metrics)
    for name, value in metrics.items():
        finite = value is not None and math.isfinite(value)
        same_name = sum(other.encode("utf-8", "replace") == name.encode("utf-8", "replace") for other in metrics)
        if same_name == 1 and "\0" not in name:
            assert found[name].value.tolist() == [value] if finite else math.isnan(found[name].value[0])
    (stored,) = list_completions(shared, run.id)
    assert len(stored.text) == len(text)
    stored.text.encode("utf-8")
    assert (stored.reward, stored.advantage) == (None, None)
    assert set(stored.rewards.values()) <= {None}
    delete_run(shared, run.id)
