"""The queue: who is next, who may start, and how a job ends exactly once."""

from contextlib import suppress
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.db.engine import Store, StoreError
from store.db.rows import JobRow
from store.db.states import CLOSED, COMES_FROM, OPEN, JobState
from store.events import list_events, set_checkpoint
from store.jobs import (
    add_job,
    ask_stop,
    beat_job,
    beat_worker,
    claim_job,
    end_job,
    get_job,
    get_worker,
    job_lengths,
    list_jobs,
    remove_worker,
    shift_job,
    start_job,
    upsert_worker,
)
from store.runs import delete_run, get_run, list_runs
from store.steps import record_step
from tests.store import make


def latest(store: Store) -> JobRow:
    return list_jobs(store)[-1]


def kinds(store: Store, run_id: int) -> list[str]:
    return [event.kind for event in list_events(store, run_id)]


def test_jobs_are_claimed_in_order_and_one_at_a_time(store: Store) -> None:
    run = make.run(store)
    first, second = (add_job(store, each.id, "train", {"n": n}) for n, each in enumerate((run, make.run(store))))
    assert [job.position for job in list_jobs(store)] == [1.0, 2.0]
    assert claim_job(store, "here") == first
    assert claim_job(store, "here") is None
    assert claim_job(store, "elsewhere") == second
    assert claim_job(store, "third") is None
    end_job(store, first.id, JobState.FINISHED, exit_code=0)
    third = add_job(store, run.id, "evaluate", {})
    assert claim_job(store, "here") == third


def test_an_evaluation_waits_for_its_training_on_whatever_host(store: Store) -> None:
    run, other = make.run(store), make.run(store)
    training = add_job(store, run.id, "train", {})
    evaluation = add_job(store, run.id, "evaluate", {})
    unrelated = add_job(store, other.id, "evaluate", {})
    assert claim_job(store, "here") == training
    assert claim_job(store, "elsewhere") == unrelated
    end_job(store, training.id, JobState.FAILED)
    assert claim_job(store, "here") == evaluation


def test_a_run_is_what_its_training_made_it(store: Store) -> None:
    run = make.run(store)
    training = make.running_job(store, run.id)
    end_job(store, training, JobState.FINISHED)
    evaluation = make.running_job(store, run.id, kind="evaluate")
    for _ in range(2):
        assert (list_runs(store)[0].status, list_runs(store)[0].job_id) == (JobState.FINISHED, training)
        assert get_run(store, run.id).status == JobState.FINISHED
        end_job(store, evaluation, JobState.FAILED)
    only = make.run(store, "base", method="none")
    make.running_job(store, only.id, host="elsewhere", kind="evaluate")
    assert get_run(store, only.id).status == JobState.RUNNING


def test_a_job_lives(store: Store) -> None:
    run = make.run(store)
    job_id = make.running_job(store, run.id)
    assert beat_job(store, job_id, "generating") == 0
    job = latest(store)
    assert (job.state, job.host, job.pid, job.heartbeat, job.activity) == (JobState.RUNNING, "here", 7, 1, "generating")
    assert end_job(store, job_id, JobState.FAILED, exit_code=1, error="It\0 broke.", traceback="…")
    assert not end_job(store, job_id, JobState.FINISHED, exit_code=0)
    job = latest(store)
    assert (job.state, job.exit_code, job.error, job.activity) == (JobState.FAILED, 1, "It\ufffd broke.", None)
    assert job.ended_at is not None
    assert kinds(store, run.id) == ["launched", "started", "failed"]
    assert list_events(store, run.id)[-1].message == "It\ufffd broke."


def test_an_activity_says_how_far_it_is_until_the_next(store: Store) -> None:
    job_id = make.running_job(store, make.run(store).id)
    beat_job(store, job_id, "validating the base", 3, 200)
    beat_job(store, job_id)
    assert (latest(store).activity, latest(store).done, latest(store).total) == ("validating the base", 3, 200)
    beat_job(store, job_id, "training")
    assert (latest(store).activity, latest(store).done, latest(store).total) == ("training", None, None)


def test_a_job_starts_once(store: Store) -> None:
    run = make.run(store)
    job_id = make.running_job(store, run.id)
    with pytest.raises(StoreError, match="another process"):
        start_job(store, job_id, host="here", boot_id=None, pid=8, pid_started=None, log_path=None)
    end_job(store, job_id, JobState.STOPPED)
    with pytest.raises(StoreError, match="has ended"):
        start_job(store, job_id, host="here", boot_id=None, pid=8, pid_started=None, log_path=None)


@pytest.mark.parametrize(("saved", "told"), [(2, ("resumed", 2)), (None, ("started", None))])
def test_a_resumed_training_says_from_which_checkpoint(
    store: Store, saved: int | None, told: tuple[str, int | None]
) -> None:
    """Steps that were recorded after it are done again; without one, all are."""
    run = make.run(store)
    end_job(store, make.running_job(store, run.id), JobState.KILLED)
    record_step(store, run.id, 4, {}, at=1.0)
    if saved is not None:
        set_checkpoint(store, run.id, kind="best", step=1, path="best")
        set_checkpoint(store, run.id, kind="last", step=saved, path="last")
    make.running_job(store, run.id, arguments={"resume": True})
    event = list_events(store, run.id)[-1]
    assert (event.kind, event.step) == told
    assert event.message.startswith(f"Resumed from step {saved} on" if saved else "Train job started on")


def test_a_script_that_goes_on_says_where_its_records_end(store: Store) -> None:
    run = make.run(store)
    end_job(store, make.running_job(store, run.id), JobState.STOPPED)
    record_step(store, run.id, 4, {}, at=1.0)
    make.running_job(store, run.id, arguments={"recorded": True})
    event = list_events(store, run.id)[-1]
    assert (event.kind, event.step) == ("resumed", 4)


def test_stopping_a_queued_job_ends_it(store: Store) -> None:
    run = make.run(store)
    job = add_job(store, run.id, "train", {})
    ask_stop(store, job.id)
    assert latest(store).state == JobState.STOPPED
    assert claim_job(store, "here") is None
    assert kinds(store, run.id) == ["launched", "stop_asked", "stopped"]


def test_stopping_an_active_job_only_ever_gets_firmer(store: Store) -> None:
    run = make.run(store)
    job_id = make.running_job(store, run.id)
    for level in (2, 1, 2, 3):
        ask_stop(store, job_id, level)
    assert (latest(store).state, latest(store).stop_requested) == (JobState.STOPPING, 3)
    assert beat_job(store, job_id) == 3
    assert kinds(store, run.id)[2:] == ["stop_asked"] * 2
    end_job(store, job_id, JobState.KILLED)
    ask_stop(store, job_id)
    assert latest(store).state == JobState.KILLED


def test_a_stop_between_claim_and_start_is_kept(store: Store) -> None:
    run = make.run(store)
    job = add_job(store, run.id, "train", {})
    claim_job(store, "here")
    ask_stop(store, job.id)
    start_job(store, job.id, host="here", boot_id="b", pid=7, pid_started=1.0, log_path=None)
    assert latest(store).state == JobState.STOPPING
    assert beat_job(store, job.id) == 1


@pytest.mark.parametrize("state", OPEN)
def test_a_run_with_an_open_job_cannot_be_deleted(store: Store, state: JobState) -> None:
    run = make.run(store)
    job = add_job(store, run.id, "train", {})
    if state != JobState.QUEUED:
        claim_job(store, "here")
    if state in (JobState.RUNNING, JobState.STOPPING):
        start_job(store, job.id, host="here", boot_id="b", pid=7, pid_started=1.0, log_path=None)
    if state == JobState.STOPPING:
        ask_stop(store, job.id)
    with pytest.raises(StoreError, match="Stop the job first"):
        delete_run(store, run.id)
    end_job(store, job.id, JobState.LOST)
    delete_run(store, run.id)
    assert list_jobs(store) == []


def test_jobs_by_run_and_by_uid(store: Store) -> None:
    run, other = make.run(store), make.run(store, "other")
    first, second = add_job(store, run.id, "train", {}), add_job(store, other.id, "train", {"a": 1})
    ask_stop(store, first.id)
    assert [job.uid for job in list_jobs(store, run_id=run.id)] == [first.uid]
    assert [job.uid for job in list_jobs(store, open_only=True)] == [second.uid]
    found = get_job(store, second.uid)
    assert (found.run_name, found.run_uid, found.arguments) == ("other", other.uid, {"a": 1})
    with pytest.raises(StoreError, match="does not exist"):
        get_job(store, "nothing")


def test_the_latest_worker_of_a_host_counts(store: Store) -> None:
    assert get_worker(store, "here") is None
    for pid in (1, 2):
        upsert_worker(store, host="here", boot_id="b", pid=pid, pid_started=1.0)
    assert not beat_worker(store, "here", 1)
    assert beat_worker(store, "here", 2)
    remove_worker(store, "here", 1)
    found = get_worker(store, "here")
    assert found is not None
    assert (found.pid, found.heartbeat) == (2, 1)
    remove_worker(store, "here", 2)
    assert get_worker(store, "here") is None


def test_each_device_has_one_job_and_a_job_without_one_holds_them_all(store: Store) -> None:
    jobs = [add_job(store, make.run(store).id, "train", {}) for _ in range(4)]
    devices = ("0", "1")
    assert [claim_job(store, "here", devices) for _ in range(3)] == [jobs[0], jobs[1], None]
    assert [get_job(store, job.uid).device for job in jobs] == ["0", "1", None, None]
    end_job(store, jobs[0].id, JobState.FINISHED)
    assert claim_job(store, "here", devices) == jobs[2]
    assert get_job(store, jobs[2].uid).device == "0"
    foreground = add_job(store, make.run(store).id, "train", {})
    start_job(store, foreground.id, host="there", boot_id=None, pid=1, pid_started=1.0, log_path=None)
    assert claim_job(store, "there", devices) is None


def test_a_job_of_several_processes_waits_for_as_many_devices(store: Store) -> None:
    jobs = [
        add_job(store, make.run(store, name=f"run {i}").id, "train", {"processes": count} if count > 1 else {})
        for i, count in enumerate((2, 1, 9, 1))
    ]
    devices = ("0", "1", "2")
    assert [claim_job(store, "here", devices) for _ in range(3)] == [jobs[0], jobs[1], None]
    assert [get_job(store, job.uid).device for job in jobs] == ["0,1", "2", None, None]
    end_job(store, jobs[0].id, JobState.FINISHED)
    assert claim_job(store, "here", devices) is None
    end_job(store, jobs[1].id, JobState.FINISHED)
    assert claim_job(store, "here", devices) == jobs[2]
    assert get_job(store, jobs[2].uid).device == "0,1,2"


def test_a_queued_job_changes_places_with_its_neighbour(store: Store) -> None:
    first, second, third = (add_job(store, make.run(store).id, "train", {}) for _ in range(3))
    assert shift_job(store, third.id, earlier=True)
    assert shift_job(store, first.id, earlier=False)
    assert [job.uid for job in list_jobs(store)] == [third.uid, first.uid, second.uid]
    assert not shift_job(store, third.id, earlier=True)
    assert not shift_job(store, second.id, earlier=False)
    assert claim_job(store, "here") == third
    assert not shift_job(store, third.id, earlier=False)
    assert not shift_job(store, first.id, earlier=True), "what runs has no place in the queue"


def test_how_long_jobs_of_a_kind_took(store: Store) -> None:
    assert job_lengths(store) == {}
    for seconds, state in (
        (10, JobState.FINISHED),
        (30, JobState.FINISHED),
        (20, JobState.FINISHED),
        (1, JobState.LOST),
    ):
        job = make.running_job(store, make.run(store).id, kind="evaluate")
        started = next(row.started_at for row in list_jobs(store) if row.id == job)
        with mock.patch("time.time", return_value=(started or 0) + seconds):
            end_job(store, job, state)
    assert job_lengths(store) == {"evaluate": pytest.approx(20)}


ACTS = {
    "claim": lambda store, job: claim_job(store, "here", ("0", "1")),
    "start": lambda store, job: start(store, job),
    "stop": lambda store, job: ask_stop(store, job, 1),
    "insist": lambda store, job: ask_stop(store, job, 3),
    "beat": lambda store, job: beat_job(store, job, "working"),
    "earlier": lambda store, job: shift_job(store, job, earlier=True),
    **{state.value: lambda store, job, end=state: end_job(store, job, end) for state in CLOSED},
}


def start(store: Store, job: int) -> None:
    with suppress(StoreError):
        start_job(store, job, host="here", boot_id="b", pid=7, pid_started=1.0, log_path=None)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(ACTS)), st.integers(0, 2)), max_size=25))
def test_whatever_happens_a_job_only_goes_where_the_machine_lets_it(shared: Store, acts: list[tuple[str, int]]) -> None:
    jobs = [add_job(shared, make.run(shared).id, "train", {}) for _ in range(3)]
    states = {job.uid: JobState.QUEUED for job in jobs}
    for act, number in acts:
        ACTS[act](shared, jobs[number].id)
        for job in jobs:
            now = JobState(get_job(shared, job.uid).state)
            before, states[job.uid] = states[job.uid], now
            assert now == before or before in COMES_FROM[now]
            assert (get_job(shared, job.uid).ended_at is not None) == (now in CLOSED)
    for job in jobs:
        end_job(shared, job.id, JobState.LOST)
