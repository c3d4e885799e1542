"""Jobs on a real Ray cluster: whatever happens to them, to their watcher or to the cluster, the database tells it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from store.db.engine import MEDIA_VARIABLE, URL_VARIABLE, Store, open_store
from store.events import list_checkpoints, list_events
from store.jobs import add_job, claim_job, get_job, list_jobs, start_job
from store.runs import get_run
from tests import postgres, ray_cluster
from tests.launch.processes import doing, ended, eventually, process, until_working
from tests.ray_cluster import Cluster
from tests.training.conftest import SMALL
from trainer import launch
from trainer.launch import cluster, identity
from trainer.launch.supervision import Supervisor
from trainer.spec import config


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    with ray_cluster.cluster() as found:
        yield found


@pytest.fixture
def ray(running: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster, named to this process."""
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return running


@pytest.fixture
def watched(ray: Cluster, store: Store) -> Iterator[Store]:
    """A database whose jobs do acts of `fake_trainer`."""
    with cleared(store):
        yield store


@contextmanager
def cleared(store: Store) -> Iterator[None]:
    """Kills at the end what works for a database, here and on the cluster."""
    try:
        yield
    finally:
        for found in psutil.process_iter():
            with suppress(psutil.Error):
                if found.pid != os.getpid() and found.environ().get(URL_VARIABLE) == store.url:
                    found.kill()


def submitted(store: Store, act: str) -> str:
    launch.submit(store, doing(act), launcher="ray")
    return list_jobs(store)[-1].uid


def log_of(store: Store, uid: str) -> str:
    path = Path(get_job(store, uid).log_path or "")
    return path.read_text() if path.is_file() else ""


def test_two_runs_work_side_by_side_and_stop_after_their_step(watched: Store) -> None:
    uids = [submitted(watched, "wait") for _ in range(2)]
    assert claim_job(watched, identity.host()) is None, "they are not for the queue of this host"
    jobs = [until_working(watched, uid) for uid in uids]
    assert [get_job(watched, uid).state for uid in uids] == ["running", "running"]
    assert "VR1Z" not in " ".join(psutil.Process(jobs[0].pid).cmdline())
    assert claim_job(watched, identity.host()) is None
    later = add_job(watched, jobs[0].run_id, "evaluate", {}, launcher="ray")
    eventually(lambda: all("doing wait" in log_of(watched, uid) for uid in uids))
    waiting = get_job(watched, later.uid)
    assert (waiting.state, waiting.activity) == ("queued", None), "its training has not ended"
    launch.stop(watched, waiting)
    assert [launch.stop(watched, job) for job in jobs] == ["The job finishes its step and saves."] * 2
    assert [(job.state, job.exit_code) for job in (ended(watched, uid) for uid in uids)] == [("stopped", 143)] * 2
    kinds = [event.kind for event in list_events(watched, jobs[1].run_id)]
    assert kinds == ["launched", "started", "stop_asked", "stopped"]
    eventually(lambda: log_of(watched, uids[0]).endswith("stopped\n"))


def test_a_job_that_is_killed_is_closed_by_whoever_watches_next(watched: Store) -> None:
    with process(watched, "ray") as watcher:
        launch.create(watched, doing("deaf"), launcher="ray")
        job = until_working(watched, list_jobs(watched)[0].uid)
        watcher.kill()
    os.kill(job.pid or 0, signal.SIGKILL)
    eventually(lambda: not cluster.is_watched(watched))
    supervisor = Supervisor(watched)
    assert supervisor.look() == ["Jobs on the Ray cluster were not being watched; a watcher was started."]
    job = ended(watched, job.uid)
    assert (job.state, job.exit_code) == ("killed", -9)
    assert "Killed by signal 9 (SIGKILL)" in str(job.error)


def test_what_finds_no_room_waits_longer_than_ray_does_and_can_be_taken_out(
    watched: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cluster.GPUS, "3")
    with process(watched, "ray") as watcher:
        launch.create(watched, doing("wait"), launcher="ray")
        job = eventually(lambda: next((job for job in list_jobs(watched) if job.activity), None))
        assert job.state == "queued"
        assert str(job.activity).startswith(
            "Waiting for 1 CPU, 3 GPU, 0.0 GiB of memory on the Ray cluster. Job has not"
        )
        assert watcher.stdout is not None
        submissions = (line for line in watcher.stdout if "submitting job" in line)
        assert next(submissions) and next(submissions), "Ray gave up in between"
        assert get_job(watched, job.uid).state == "queued"
        assert launch.stop(watched, job) == "The job was removed from the queue."
        assert get_job(watched, job.uid).state == "stopped"


def test_a_deaf_job_is_killed_at_the_third_level(watched: Store) -> None:
    uid = submitted(watched, "deaf")
    job = until_working(watched, uid)
    eventually(lambda: "deaf now" in log_of(watched, uid))
    for level in (1, 2, 3):
        launch.stop(watched, job, level)
    job = ended(watched, uid)
    assert job.state == "killed" and job.error == "Killed on request; progress since the last checkpoint is lost."


def test_a_job_that_the_cluster_has_forgotten_is_lost(watched: Store) -> None:
    _, job = launch.create(watched, doing("wait"), launcher="ray")
    start_job(watched, job.id, host="elsewhere", boot_id="b", pid=7, pid_started=1.0, log_path=None)
    with process(watched, "ray"):
        row = ended(watched, job.uid)
    assert row.state == "lost" and "The Ray cluster no longer knows this job" in str(row.error)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RAY_AUTH_TOKEN", "not the one", "refused the request: "),
        (cluster.ADDRESS, "http://127.0.0.1:1", "does not answer. Retrying."),
    ],
)
def test_a_cluster_that_cannot_be_asked_is_a_sentence(
    watched: Store, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with process(watched, "ray"):
        launch.create(watched, doing("finish"), launcher="ray")
        job = eventually(lambda: next((job for job in list_jobs(watched) if job.activity), None))
    assert job.state == "queued"
    assert str(job.activity).startswith(f"The Ray cluster at {cluster.address()} {words}")


@pytest.mark.training
def test_the_demo_on_postgresql_and_ray_is_stopped_with_a_checkpoint_and_goes_on(
    ray: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MEDIA_VARIABLE, str(tmp_path / "media"))
    settings = config.override(config.preset("shapes-grpo"), SMALL | {"optimization.steps": "400"})
    with (
        postgres.server() as server,
        postgres.database(server) as url,
        closing(open_store(url)) as store,
        cleared(store),
    ):
        run = launch.submit(store, settings, launcher="ray")
        first = stopped_beyond(store, run.id, 1)
        launch.resume(store, run.id)
        assert stopped_beyond(store, run.id, first) > first


def stopped_beyond(store: Store, run_id: int, step: int) -> int:
    """Stops the run once it is beyond a step; the step of the checkpoint that it leaves."""
    job = list_jobs(store)[-1]
    eventually(lambda: get_run(store, run_id).step > step)
    launch.stop(store, job)
    job = ended(store, job.uid)
    assert (job.state, job.exit_code) == ("stopped", 143)
    (last,) = [each for each in list_checkpoints(store, run_id) if each.kind == "last"]
    assert last.step == get_run(store, run_id).step and Path(last.path).is_dir()
    return last.step
