"""Which cluster may be used for what, what it is asked for, and what is said of a job that it lost. Without Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from store.db.engine import Store
from store.db.rows import JobRow
from store.jobs import claim_job, get_job, list_jobs, shift_job, start_job
from store.runs import list_runs
from tests.launch.processes import doing
from trainer import launch
from trainer.__main__ import main
from trainer.launch import cluster, identity, local, needs, ray_jobs
from trainer.launch.needs import Need
from trainer.spec.config import ConfigError

HERE = "http://127.0.0.1:8265"
MEMORY = {"peak": 5 * 2**30, "parts": {"weights": 2**30, "runtime": 2**29, "logits": 2**32}}


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> list[Store]:
    """A cluster has a name, and whoever would be started to watch it is only listed."""
    started: list[Store] = []
    monkeypatch.setenv(cluster.ADDRESS, HERE)
    monkeypatch.setattr(cluster, "start_watcher", started.append)
    return started


@pytest.mark.parametrize(
    ("address", "mode", "words"),
    [
        ("", "", "No Ray cluster is configured: set VR1Z_RAY_ADDRESS"),
        ("127.0.0.1:8265", "", "must be the http address"),
        ("ray://127.0.0.1:10001", "", "must be the http address"),
        ("http://me:secret@127.0.0.1:8265", "", "without a user name or password"),
        ("http://127.0.0.1:port", "", "must be the http address"),
        ("http://head:8265", "", "anyone who reaches an open Jobs API can run code there"),
        ("http://127.0.0.1.example.org:8265", "", "anyone who reaches an open Jobs API"),
        ("http://head:8265", "token", "is a local file that jobs on head cannot reach: use PostgreSQL"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, address: str, mode: str, words: str
) -> None:
    monkeypatch.setenv(cluster.ADDRESS, address)
    monkeypatch.setenv(cluster.AUTHENTICATION, mode)
    with pytest.raises(ConfigError, match=words):
        launch.submit(store, doing("finish"), launcher="ray")
    assert list_runs(store) == []


def test_without_ray_it_is_said_what_to_install(store: Store) -> None:
    code = f"""
import sys
sys.modules["ray"] = None
from trainer.launch.ray_jobs import Jobs
from trainer.spec.config import ConfigError
try:
    Jobs("{HERE}").call("list_jobs")
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=local.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "Ray is not installed: run `pip install -r requirements-cluster.txt`.\n"


def test_a_cluster_is_told_everything_but_the_password(store: Store) -> None:
    with_secrets = "postgresql+psycopg://me:secret@host/runs?sslpassword=hidden&password=also&sslmode=require"
    known = cluster.environment(Store(with_secrets, store.engine, Path("/shared/media")))
    assert known["VR1Z_DATABASE_URL"] == "postgresql+psycopg://me@host/runs?sslmode=require"
    assert known["VR1Z_MEDIA"] == "/shared/media"
    assert cluster.environment(store)["VR1Z_DATABASE_URL"] == store.url


def test_jobs_of_the_cluster_are_not_for_the_queue_of_a_host(store: Store, named: list[Store]) -> None:
    run = launch.submit(store, doing("finish"), launcher="ray")
    assert named == [store]
    assert claim_job(store, "any") is None
    (job,) = list_jobs(store)
    assert not shift_job(store, job.id, earlier=False)
    me = identity.current()
    start_job(
        store, job.id, host=me.host, boot_id=me.boot_id, pid=me.pid, pid_started=1.0, log_path=None
    )  # a process that is gone
    local_job = launch.create(store, doing("finish"))[1]
    assert claim_job(store, me.host) == local_job, "its devices are not ours"
    assert get_job(store, job.uid).state == "running", "how it ended, the cluster knows"
    assert launch.evaluate(store, run.id, {}) and list_jobs(store)[-1].launcher == "ray"


def test_what_is_asked_of_a_run_later_goes_where_it_began_while_that_has_a_name(
    store: Store, named: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = launch.submit(store, doing("finish"), launcher="ray")
    assert launch.launcher_of(store, run.id) == "ray"
    monkeypatch.delenv(cluster.ADDRESS)
    assert launch.launcher_of(store, run.id) == "local"


def test_the_command_line_names_the_launcher(
    store: Store, named: list[Store], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--preset", "shapes-sft", "--launcher", "ray", "--db", store.url]) == 0
    assert capsys.readouterr().out.startswith("queued run ")
    assert main(["experiment", "demo-tables", "--queue", "--launcher", "ray", "--db", store.url]) == 0
    assert {job.launcher for job in list_jobs(store)} == {"ray"} and len(list_jobs(store)) > 5
    assert len(named) == 2


@pytest.mark.parametrize(
    ("model", "gpus", "memory", "need", "words"),
    [
        ("tiny", "", MEMORY, Need(0, 5 * 2**30), "1 CPU, 5.0 GiB of memory"),
        ("tiny", "1", MEMORY, Need(1, 3 * 2**29), "1 CPU, 1 GPU, 1.5 GiB of memory"),
        ("other", "", MEMORY, Need(1, 3 * 2**29), "1 CPU, 1 GPU, 1.5 GiB of memory"),
        ("other", "0", None, Need(0, None), "1 CPU"),
    ],
)
def test_what_a_job_asks_for(
    monkeypatch: pytest.MonkeyPatch, model: str, gpus: str, memory: dict[str, Any] | None, need: Need, words: str
) -> None:
    monkeypatch.setenv(cluster.GPUS, gpus)
    found = needs.need({"model": {"id": model}}, memory)
    assert found == need and str(found) == words


@pytest.mark.parametrize("gpus", ["many", "-1", "nan", "inf"])
def test_a_number_of_gpus_is_a_number(
    store: Store, named: list[Store], monkeypatch: pytest.MonkeyPatch, gpus: str
) -> None:
    monkeypatch.setenv(cluster.GPUS, gpus)
    with pytest.raises(ConfigError, match="VR1Z_RAY_GPUS must be a number of GPUs"):
        launch.submit(store, doing("finish"), launcher="ray")


@pytest.mark.parametrize(
    ("columns", "submission", "state", "words"),
    [
        ({}, {"status": "FAILED", "driver_exit_code": -9}, "killed", "signal 9"),
        ({}, {"status": "FAILED", "driver_exit_code": 74}, "failed", "Free space"),
        ({"stop_requested": 1}, {"status": "FAILED", "driver_exit_code": 143}, "stopped", "Stopped on request"),
        ({"stop_requested": 3}, {"status": "STOPPED"}, "killed", "Killed on request"),
        ({"stop_requested": 2}, {"status": "STOPPED"}, "stopped", "Stopped on request"),
        ({}, {"status": "STOPPED"}, "killed", "Stopped through Ray, which waits 300 s"),
        (
            {},
            {"status": "FAILED", "message": "Its node died.\nat x"},
            "lost",
            "Ray lost the job: Its node died. Resume",
        ),
        (
            {"started_at": None},
            {"status": "FAILED", "message": "No."},
            "failed",
            "Ray could not start the job: No. Fix",
        ),
    ],
)
def test_how_a_submission_ended(columns: dict[str, Any], submission: dict[str, Any], state: str, words: str) -> None:
    fields = dict.fromkeys(JobRow._fields) | {
        "arguments": {},
        "stop_requested": 0,
        "uid": "a",
        "boot_id": "elsewhere",
        "started_at": 1.0,
    }
    known = SimpleNamespace(**{"driver_exit_code": None, "message": None} | submission)
    ending = ray_jobs.judge(JobRow(**{**fields, **columns}), known, "")
    assert ending.state == state and words in ending.error


@pytest.mark.parametrize(
    ("id", "metadata", "is_ours"),
    [
        ("0123456789", {"run": "abcdef0123"}, True),
        ("0123456789-2", {"run": "abcdef0123"}, True),
        ("0123456789", None, False),
        ("0123456789", {"run": "../../../x"}, False),
        ("../../../x", {"run": "abcdef0123"}, False),
        (None, {"run": "abcdef0123"}, False),
    ],
)
def test_what_others_submit_names_no_file(id: str | None, metadata: dict[str, str] | None, is_ours: bool) -> None:
    assert ray_jobs.is_ours(SimpleNamespace(submission_id=id, metadata=metadata)) == is_ours
