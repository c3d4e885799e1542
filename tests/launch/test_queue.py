"""The worker and real processes: whatever happens to them, the database tells the truth soon after."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from store.db import ownership, private
from store.db.engine import Store, open_store
from store.db.rows import JobRow
from store.events import list_events
from store.jobs import ask_stop, claim_job, get_job, get_worker, remove_worker, start_job, upsert_worker
from store.runs import get_run
from store.steps import record_step
from tests.launch.processes import doing, ended, eventually, process, queued, submitted, until, until_working
from trainer import launch
from trainer.launch import devices, identity, local, queue, supervision, threads
from trainer.spec.config import override


def output(store: Store, job: JobRow) -> Path:
    return ownership.folder_of(store, job.run_uid)


def pid_of(job: JobRow) -> int:
    assert job.pid is not None
    return job.pid


def events(store: Store, job: JobRow) -> list[str]:
    return [event.kind for event in list_events(store, job.run_id)]


def test_the_queue_is_drained_in_order_one_at_a_time(store: Store) -> None:
    uids = [queued(store, act) for act in ("exit", "finish")]
    with process(store, "queue") as worker:
        jobs = [ended(store, uid) for uid in uids]
        said, _ = worker.communicate(timeout=120)
    assert worker.returncode == 0
    assert [job.state for job in jobs] == ["failed", "finished"]
    assert [job.exit_code for job in jobs] == [3, 0]
    times = [time for job in jobs for time in (job.started_at, job.ended_at)]
    assert times == sorted(times, key=lambda at: at or 0)
    assert get_worker(store, identity.host()) is None
    assert f"starting job {uids[0]} of exit" in said


def test_a_submitted_run_is_carried_out_with_nobody_waiting(store: Store) -> None:
    uid = submitted(store, "finish")
    job = ended(store, uid)
    assert (job.state, job.exit_code, job.kind) == ("finished", 0, "train")
    assert events(store, job) == ["launched", "started", "finished"]
    assert job.log_path == str(output(store, job) / "log.txt")
    log = Path(job.log_path).read_text()
    assert log.startswith(f"=== job {uid} ===\n") and "doing finish\n" in log and log.endswith("finished\n")
    assert get_run(store, job.run_id).output_dir == str(output(store, job))


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_all_that_a_job_and_its_queue_write_is_for_this_account(store: Store) -> None:
    before = os.umask(0)
    try:
        job = ended(store, submitted(store, "finish"))
    finally:
        os.umask(before)
    paths = [path for path in store.folder.rglob("*") if "locks" in path.parts or store.folder / "runs" in path.parents]
    assert {"locks", "log.txt"} <= {path.name for path in paths} and job.state == "finished"
    assert [path.name for path in (store.folder / "locks").iterdir()] == [f"queue-{identity.host()}.lock"]
    written = [path for path in paths if path.name != "pids"]  # the stand-in's own
    for path in (*written, *store.folder.glob("*.db*"), store.folder / "queue.log"):
        assert not path.stat().st_mode & 0o077, path


def test_a_job_has_a_session_of_its_own_and_no_secret_in_its_arguments(store: Store) -> None:
    job = until_working(store, submitted(store, "wait"))
    found = psutil.Process(pid_of(job))
    assert os.getsid(found.pid) == found.pid != os.getsid(0)
    assert found.nice() == min(19, os.nice(0) + 5)
    assert store.url not in " ".join(found.cmdline()) and found.environ()["VR1Z_DATABASE_URL"] == store.url
    assert os.readlink(f"/proc/{found.pid}/fd/0") == "/dev/null"
    assert launch.stop(store, job) == "The job finishes its step and saves."
    job = ended(store, job.uid)
    assert (job.state, job.exit_code) == ("stopped", 143)
    assert events(store, job) == ["launched", "started", "stop_asked", "stopped"]


@pytest.mark.parametrize(
    ("act", "state", "exit_code", "words"),
    [
        ("exit", "failed", 3, "ended with exit code 3 without an error message; see the log"),
        ("abort", "killed", -6, "signal 6 (SIGABRT)"),
        ("trace", "failed", 7, "exit code 7: ValueError: bad number"),
        ("fail", "failed", 1, "The images are gone. Bring them back."),
    ],
)
def test_a_job_that_fails_says_why(store: Store, act: str, state: str, exit_code: int, words: str) -> None:
    job = ended(store, submitted(store, act))
    assert (job.state, job.exit_code) == (state, exit_code)
    assert words in str(job.error)
    assert f"doing {act}" in str(job.traceback) or "Traceback" in str(job.traceback)


def test_a_process_that_ends_without_a_word_has_not_finished(store: Store) -> None:
    job = ended(store, submitted(store, "vanish"))
    assert (job.state, job.exit_code) == ("failed", 0)
    assert "ended with exit code 0 without an error message; see the log" in str(job.error)


@pytest.fixture
def two_processors() -> Iterator[None]:
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if len(allowed) < 2:
        pytest.skip("needs two processors")
    os.sched_setaffinity(0, sorted(allowed)[:2])
    yield
    os.sched_setaffinity(0, allowed)


@pytest.mark.usefixtures("two_processors")
def test_without_gpus_jobs_of_few_threads_run_at_once_and_wide_ones_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(devices.VARIABLE)
    monkeypatch.setenv(devices.CUDA, "")
    monkeypatch.setenv(threads.VARIABLE, "1")
    first, second, third = (queued(store, act) for act in ("wait", "wait", "finish"))
    with process(store, "queue"):
        jobs = [until_working(store, uid) for uid in (first, second)]
        assert [job.device for job in jobs] == ["cpu", "cpu-2"]
        wide = override(doing("finish"), {"optimization.threads": "2"})
        last = launch.create(store, wide)[1].uid
        launch.stop(store, jobs[1])
        assert ended(store, second).exit_code == 143
        assert get_job(store, third).state == get_job(store, last).state == "queued", "a wide job starts alone"
        launch.stop(store, jobs[0])
        assert [ended(store, uid).device for uid in (first, third, last)] == ["cpu"] * 3


def test_jobs_run_at_once_each_on_a_device_of_its_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.VARIABLE, "0,1")
    first, second, third = (queued(store, act) for act in ("wait", "wait", "finish"))
    with process(store, "queue"):
        jobs = [until_working(store, uid) for uid in (first, second)]
        shown = [psutil.Process(pid_of(job)).environ() for job in jobs]
        assert [each["CUDA_VISIBLE_DEVICES"] for each in shown] == [job.device for job in jobs] == ["0", "1"]
        assert [each[devices.VARIABLE] for each in shown] == ["0,1", "0,1"]
        assert get_job(store, third).state == "queued"
        launch.stop(store, jobs[0])
        assert ended(store, third).device == "0"
        launch.stop(store, jobs[1])
        assert [ended(store, uid).exit_code for uid in (first, second)] == [143, 143]


def test_a_worker_that_hangs_is_replaced_and_its_job_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FROZEN_SECONDS", 1.0)
    uid, waiting = queued(store, "wait"), queued(store, "finish")
    supervisor = supervision.Supervisor(store)
    with process(store, "queue") as worker:
        job = until_working(store, uid)
        worker.send_signal(signal.SIGSTOP)
        said = eventually(supervisor.look)
        assert said == ["The worker of this host had no heartbeat for 1 s and was killed; its jobs continue."]
        assert worker.wait(timeout=120) == -signal.SIGKILL
    assert supervisor.look() == ["The worker of this host had died; another was started."]
    assert supervisor.look() == [], "it is given time to come up"
    assert get_job(store, uid).pid == job.pid and get_job(store, uid).state == "running"
    launch.stop(store, job)
    assert ended(store, waiting).state == "finished"


def test_a_job_killed_from_outside_is_closed_and_its_descendants_with_it(store: Store) -> None:
    job = until_working(store, submitted(store, "fork"))
    child = output(store, job) / "child"
    eventually(lambda: child.exists() and child.read_text())
    os.kill(pid_of(job), signal.SIGKILL)
    job = ended(store, job.uid)
    assert (job.state, job.exit_code) == ("killed", -9)
    assert "Killed by signal 9 (SIGKILL)" in str(job.error)
    eventually(lambda: identity.start_time(int(child.read_text())) is None)


def test_descendants_do_not_outlive_a_finished_job(store: Store) -> None:
    job = ended(store, submitted(store, "leave"))
    assert job.state == "finished"
    eventually(lambda: identity.start_time(int((output(store, job) / "child").read_text())) is None)


def test_a_deaf_job_is_killed_at_the_third_level(store: Store) -> None:
    job = until_working(store, submitted(store, "deaf"))
    eventually(lambda: "deaf now" in Path(str(job.log_path)).read_text())
    launch.stop(store, job, 1)
    launch.stop(store, job, 2)
    assert get_job(store, job.uid).state == "stopping"
    launch.stop(store, job, 3)
    job = ended(store, job.uid)
    assert job.state == "killed" and job.error == "Killed on request; progress since the last checkpoint is lost."
    assert identity.start_time(pid_of(job)) is None


def test_a_job_that_is_stuck_ends_at_the_second_level(store: Store) -> None:
    job = until_working(store, submitted(store, "stuck"))
    launch.stop(store, job, 1)
    launch.stop(store, job, 2)
    job = ended(store, job.uid)
    assert (job.state, job.exit_code) == ("stopped", 143)


def test_a_dashboard_on_another_host_can_have_a_job_killed(store: Store) -> None:
    job = until_working(store, submitted(store, "deaf"))
    eventually(lambda: "deaf now" in Path(str(job.log_path)).read_text())
    ask_stop(store, job.id, 3)
    assert ended(store, job.uid).state == "killed"


def test_a_queued_job_is_taken_out_at_once(store: Store) -> None:
    uid = queued(store, "finish")
    assert launch.stop(store, get_job(store, uid)) == "The job was removed from the queue."
    assert get_job(store, uid).state == "stopped"
    assert launch.stop(store, get_job(store, uid), 3) == "The job has already ended."


def test_a_stop_while_the_process_starts_is_obeyed(store: Store) -> None:
    uid = submitted(store, "wait")
    job = until(store, uid, "starting", "running")
    launch.stop(store, job)
    job = ended(store, uid)
    assert (job.state, job.exit_code) == ("stopped", 143)


def test_a_killed_worker_leaves_its_job_alone_and_the_next_one_adopts_it(store: Store) -> None:
    first, second = queued(store, "wait"), queued(store, "finish")
    with process(store, "queue") as worker:
        job = until_working(store, first)
        worker.kill()
    assert supervision.Supervisor(store).look() == ["The worker of this host had died; another was started."]
    row = eventually(lambda: get_worker(store, identity.host()))
    eventually(lambda: (get_worker(store, identity.host()) or row).pid != worker.pid)
    time.sleep(3 * queue.TICK_SECONDS)
    assert get_job(store, first).state == "running" and get_job(store, first).pid == job.pid
    assert get_job(store, second).state == "queued"
    launch.stop(store, job)
    assert ended(store, first).state == "stopped"
    assert ended(store, second).state == "finished"


def test_an_adopted_job_that_dies_is_closed(store: Store) -> None:
    uid = queued(store, "deaf")
    with process(store, "queue") as worker:
        job = until_working(store, uid)
        worker.kill()
    with process(store, "queue"):
        time.sleep(1)
        os.kill(pid_of(job), signal.SIGKILL)
        job = ended(store, uid)
    assert job.state == "lost" and "died without an error message" in str(job.error)


def test_a_worker_that_is_told_to_leave_signs_off_and_its_job_goes_on(store: Store) -> None:
    uid = queued(store, "wait")
    with process(store, "queue") as worker:
        job = until_working(store, uid)
        worker.terminate()
        assert worker.wait(timeout=120) == 143
    assert get_worker(store, identity.host()) is None
    assert identity.start_time(pid_of(job)) is not None and get_job(store, uid).state == "running"
    assert supervision.Supervisor(store).look() == []


def test_of_two_workers_one_works(store: Store) -> None:
    uids = [queued(store, "finish") for _ in range(3)]
    with process(store, "queue") as one, process(store, "queue") as two:
        jobs = [ended(store, uid) for uid in uids]
        said = [worker.communicate(timeout=120)[0] for worker in (one, two)]
    assert [job.state for job in jobs] == ["finished"] * 3
    assert all(len((output(store, job) / "pids").read_text().split()) == 1 for job in jobs)
    assert sum("starting job" in words for words in said) == 1


def test_a_live_worker_is_not_started_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    me = identity.current()
    started: list[Store] = []
    monkeypatch.setattr(local, "start_worker", started.append)
    upsert_worker(store, host=me.host, boot_id=me.boot_id, pid=me.pid, pid_started=me.started)
    private.lock_folder(store.folder)
    with FileLock(local.queue_lock(store)):
        launch.ensure_worker(store)
        assert started == []
        upsert_worker(store, host=me.host, boot_id=me.boot_id, pid=me.pid, pid_started=1.0)
        launch.ensure_worker(store)
        assert started == [store]


def test_a_copied_database_leaves_the_worker_of_the_original_alone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "FROZEN_SECONDS", 0.0)
    started: list[Store] = []
    uid = queued(store, "wait")
    with process(store, "queue") as worker:
        until_working(store, uid)
        queued(store, "finish")
        (tmp_path / "copy").mkdir()
        with closing(sqlite3.connect(store.where)) as origin, closing(sqlite3.connect(tmp_path / "copy/runs.db")) as to:
            origin.backup(to)
        with closing(open_store(str(tmp_path / "copy/runs.db"))) as copied:
            monkeypatch.setattr(local, "start_worker", started.append)
            assert not supervision.worker_lives(copied) and supervision.worker_lives(store)
            assert [supervision.Supervisor(copied).look() for _ in range(3)] == [[], [], []]
            assert worker.poll() is None and started == []
            launch.ensure_worker(copied)
            assert started == [copied], "what is queued in the copy gets a worker of its own"


def test_a_frozen_worker_of_another_user_is_not_said_to_be_killed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "FROZEN_SECONDS", 0.0)
    me = identity.current()
    upsert_worker(store, host=me.host, boot_id=me.boot_id, pid=me.pid, pid_started=me.started)
    private.lock_folder(store.folder)

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(local.os, "kill", refuse)
    with FileLock(local.queue_lock(store)):
        (told,) = supervision.Supervisor(store).look()
    remove_worker(store, me.host, me.pid)
    assert told.endswith(f"It belongs to another user, who has to end process {me.pid}.")


def claimed(store: Store, act: str, **identity_: object) -> str:
    """A job that says it runs with an identity that may be altered."""
    uid = queued(store, act)
    job = get_job(store, uid)
    who = identity.current()._replace(**identity_)
    start_job(store, job.id, host=who.host, boot_id=who.boot_id, pid=who.pid, pid_started=who.started, log_path=None)
    return uid


def test_a_reused_pid_does_not_keep_a_job_alive(store: Store) -> None:
    uid = claimed(store, "wait", started=1.0)
    (sentence,) = supervision.Supervisor(store).look()
    assert sentence.startswith(f"Job {uid} of wait: The process died without an error message")
    assert get_job(store, uid).state == "lost"
    assert supervision.Supervisor(store).look() == []


def test_a_job_from_before_the_reboot_is_lost(store: Store) -> None:
    uid = claimed(store, "wait", boot_id="before")
    assert "The machine was restarted" in supervision.Supervisor(store).look()[0]
    assert get_job(store, uid).state == "lost"


def test_live_jobs_and_those_of_another_host_are_left_alone(store: Store) -> None:
    here, there = claimed(store, "wait"), claimed(store, "wait", host="elsewhere", pid=999_999_999)
    assert supervision.Supervisor(store).look() == []
    assert [get_job(store, uid).state for uid in (here, there)] == ["running", "running"]
    assert (
        launch.stop(store, get_job(store, there), 3)
        == "The job runs on elsewhere. The request was stored and is handled there."
    )
    assert get_job(store, there).state == "stopping"


def test_a_stop_that_another_host_does_not_answer_can_be_given_up(store: Store) -> None:
    uid = claimed(store, "wait", host="elsewhere")
    for level in (1, 2, 3):
        assert (
            launch.stop(store, get_job(store, uid), level)
            == "The job runs on elsewhere. The request was stored and is handled there."
        )
    assert get_job(store, uid).state == "stopping"
    assert "was given up" in launch.stop(store, get_job(store, uid), 4)
    assert get_job(store, uid).state == "lost"
    step = record_step(store, get_job(store, uid).run_id, 1, {}, at=1.0, job_id=get_job(store, uid).id)
    assert step == 4, "a process that still lives learns that it must end"


def test_a_job_of_this_host_cannot_be_given_up(store: Store) -> None:
    job = until_working(store, submitted(store, "deaf"))
    launch.stop(store, job, 4)
    assert ended(store, job.uid).state == "killed"


def test_a_stop_works_when_the_process_is_gone_already(store: Store) -> None:
    uid = claimed(store, "wait", started=1.0)
    assert "died without an error message" in launch.stop(store, get_job(store, uid), 1)
    assert get_job(store, uid).state == "lost"


def test_a_job_that_was_claimed_and_never_started_does_not_clog_the_queue(store: Store) -> None:
    first, second = queued(store, "finish"), queued(store, "finish")
    assert claim_job(store, identity.host()) is not None
    with process(store, "queue"):
        assert ended(store, second).state == "finished"
    job = get_job(store, first)
    assert job.state == "lost" and "never started" in str(job.error)


def test_a_log_that_cannot_be_written_fails_the_job_not_the_queue(store: Store) -> None:
    first, second = queued(store, "finish"), queued(store, "finish")
    log = local.log_path(store, get_job(store, first).run_uid)
    log.mkdir()
    with process(store, "queue"):
        assert ended(store, second).state == "finished"
    job = get_job(store, first)
    assert job.state == "failed" and str(log) in str(job.error)


def test_jobs_queued_by_a_stranger_do_not_come_to_this_host(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Store] = []
    monkeypatch.setattr(local, "start_worker", started.append)
    launch.create(store, doing("finish"))
    assert supervision.Supervisor(store).look() == [] and started == []
