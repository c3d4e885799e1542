"""The webhook, against a real server of this machine: what it is told, and that nothing it does touches a job."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from store.db.engine import Store, open_store
from store.db.states import JobState
from store.jobs import add_job, claim_job, end_job, get_job, start_job
from tests.store import make
from trainer.jobs.job import execute
from trainer.launch import endings, identity, webhook

SECRET = "s3cret-path-of-the-hook"


class Hook:
    """An address that keeps what it was told and answers with `status`, after `seconds`."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.status, self.seconds, self.location = 200, 0.0, ""
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.told.append(json.loads(body) | {"path": self.path, "type": self.headers["Content-Type"]})
                time.sleep(hook.seconds)
                self.send_response(hook.status)
                if hook.location:
                    self.send_header("Location", hook.location)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/{SECRET}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    made = Hook()
    monkeypatch.setenv(webhook.VARIABLE, made.url)
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(str(tmp_path / "test.db"))
    yield store
    store.close()


def queued(store: Store) -> Any:
    run = make.run(store, "counting")
    return get_job(store, add_job(store, run.id, "train", {}).uid)


def test_the_end_of_a_job_is_told(store: Store, hook: Hook) -> None:
    job = queued(store)
    assert execute(store, job, lambda store, job_id: None) == 0
    (told,) = hook.told
    assert (told["event"], told["state"], told["job"], told["run"]) == ("end", "finished", job.uid, job.run_uid)
    assert told["text"] == "counting: train finished at step 0."
    assert (told["path"], told["type"]) == (f"/{SECRET}", "application/json")


def test_a_failure_is_told_with_its_reason_and_without_secrets(store: Store, hook: Hook) -> None:
    def fail(store: Store, job_id: int) -> None:
        raise MemoryError(f"out of memory at {os.environ[webhook.VARIABLE]}")

    assert execute(store, queued(store), fail) == 1
    (told,) = hook.told
    assert (told["state"], told["error_kind"]) == ("out_of_memory", "out_of_memory")
    assert "Out of memory" in told["text"]
    assert SECRET not in told["text"]


def test_a_job_that_died_without_a_word_is_told_by_whoever_finds_it(store: Store, hook: Hook) -> None:
    job = queued(store)
    claim_job(store, identity.host())
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    me = identity.current()
    start_job(store, job.id, host=me.host, boot_id=me.boot_id, pid=child.pid, pid_started=1.0, log_path=None)
    assert len(endings.close_gone(store)) == 1
    assert [told["state"] for told in hook.told] == ["lost"]
    assert endings.close_gone(store) == []
    assert len(hook.told) == 1


@pytest.mark.parametrize("status", [301, 307, 404, 500])
def test_an_address_that_refuses_or_leads_elsewhere_changes_nothing(
    store: Store, hook: Hook, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    hook.status, hook.location = status, hook.url + "/elsewhere"
    assert execute(store, queued(store), lambda store, job_id: None) == 0
    assert len(hook.told) == 1
    assert f"status {status}" in caplog.text
    assert SECRET not in caplog.text


def test_an_address_that_does_not_answer_holds_nothing_up_for_long(
    store: Store, hook: Hook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", 0.2)
    hook.seconds = 1.0
    begin = time.monotonic()
    assert execute(store, queued(store), lambda store, job_id: None) == 0
    assert time.monotonic() - begin < 5
    assert "could not be reached" in caplog.text


def test_an_address_where_nobody_is(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(webhook.VARIABLE, f"http://127.0.0.1:9/{SECRET}")
    assert not webhook.send("end", "x")
    assert "could not be reached" in caplog.text and SECRET not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        f"http://example.org/{SECRET}",
        f"http://127.0.0.1.example.org/{SECRET}",
        f"ftp://127.0.0.1/{SECRET}",
        f"file:///etc/{SECRET}",
        f"https:///{SECRET}",
        f"http://[::1/{SECRET}",
        SECRET,
    ],
)
def test_only_https_or_this_machine_is_told(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(webhook.VARIABLE, url)
    assert not webhook.send("end", "x")
    assert webhook.VARIABLE in caplog.text and SECRET not in caplog.text


def test_nobody_is_told_unless_somebody_asked_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(webhook.VARIABLE, raising=False)
    with caplog.at_level(logging.DEBUG, logger=webhook.__name__):
        assert execute(store, queued(store), lambda store, job_id: None) == 0
    assert webhook.problem() is None
    assert not [record for record in caplog.records if record.name == webhook.__name__]


def test_a_job_whose_end_is_not_recorded_is_not_told_of(store: Store, hook: Hook) -> None:
    job = queued(store)
    assert not webhook.send_end(store, job.uid)
    end_job(store, job.id, JobState.STOPPED)
    assert webhook.send_end(store, job.uid)
