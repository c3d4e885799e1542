"""A job of another host is judged by its heartbeat alone, and findings reach the webhook once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.emergence import webhook as herald
from app.heartbeats import HeartbeatMonitor
from app.shared import format, status
from store.db.engine import Store, open_store
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.events import list_events
from store.examples import add_examples
from store.jobs import beat_job, list_jobs
from store.runs import list_runs
from store.steps import record_step
from tests.store import make
from trainer.launch import endings, identity, webhook


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def elsewhere(tmp_path: Path) -> tuple[Store, int]:
    """A running job of another host, whose wall clock is years off."""
    store = open_store(str(tmp_path / "runs.db"))
    return store, make.running_job(store, make.run(store).id, host="gpu-box")


def test_a_job_elsewhere_is_silent_from_when_its_heartbeat_was_last_seen_to_move(elsewhere: tuple[Store, int]) -> None:
    store, job_id = elsewhere
    clock = Clock()
    monitor = HeartbeatMonitor(clock)

    def said() -> str | None:
        monitor.update(list_jobs(store, open_only=True))
        run = replace(list_runs(store)[0], spoke_at=0.0)
        return status.silence(run, 10.0**10, monitor.seconds_since_beat(run.job_id, run.host))

    assert said() is None
    clock.now = 50.0
    beat_job(store, job_id)
    assert said() is None
    clock.now = 50.0 + status.STILL_AFTER
    assert said() is None
    clock.now += 30
    assert said() == "silent for 1 min 30 s: no heartbeat from gpu-box, check that host"
    beat_job(store, job_id)
    assert said() is None


def test_a_job_elsewhere_is_never_closed_from_here(elsewhere: tuple[Store, int]) -> None:
    store, _ = elsewhere
    assert endings.close_gone(store) == []
    assert list_runs(store)[0].status == "running"


def test_a_job_of_this_host_is_judged_by_its_process() -> None:
    monitor = HeartbeatMonitor(Clock())
    assert monitor.seconds_since_beat(1, identity.host()) is None
    assert monitor.seconds_since_beat(1, None) is None
    assert monitor.seconds_since_beat(1, "never-looked-at") is None


def always_seven(store: Store) -> int:
    """A run at work whose every answer is 7, whatever is asked."""
    run = make.run(store)
    make.running_job(store, run.id)
    ids = add_examples(store, [make.example(str(n), answer=n, images=()) for n in range(8)])
    for step in range(1, 61):
        rows = [
            make.completion(i % 4, group=i // 4, example_id=ids[i // 4], answer=7, correct=i // 4 == 7, advantage=0.0)
            for i in range(32)
        ]
        record_step(store, run.id, step, {"reward": 1.0}, at=float(step), completions=rows)
    return run.id


def test_a_finding_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []

    def tell(event: str, text: str, **facts: Any) -> bool:
        told.append((event, facts["kind"]))
        return True

    monkeypatch.setenv("VR1Z_DATABASE_URL", f"sqlite:///{tmp_path / 'runs.db'}")
    store = open_store()
    run_id = always_seven(store)
    assert herald.send_findings(store) == 0
    monkeypatch.setenv(webhook.VARIABLE, "http://127.0.0.1:9/x")
    monkeypatch.setattr(webhook, "send", tell)
    count = herald.send_findings(store)
    assert count == len(told) > 0
    assert {event for event, _ in told} == {"finding"}
    assert herald.send_findings(store) == 0
    assert len([event for event in list_events(store, run_id) if event.kind == herald.EVENT]) == count


def test_the_webhook_tells_what_the_page_shows(
    empty_store: Store, open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reward of a run that is longer than a chart has points: its extremes alone have another level."""
    run, steps = make.run(empty_store), 1200
    make.running_job(empty_store, run.id)
    for step in range(1, steps + 1):
        low, high = (0.1, 0.3) if step < 900 else (0.9, 0.5)
        completions = [make.completion(index, correct=index == 0) for index in range(2)]
        reward = high if step % 3 == 0 else low
        record_step(empty_store, run.id, step, {"reward": reward}, at=float(step), completions=completions)
    (id,) = add_examples(empty_store, [make.example("a", answer=1, images=())])
    for step, right in ((100, 0.5), (600, 0.9), (1200, 0.4)):
        words = {"benchmark": "shapes-simple", "split": "val", "kind": "val", "conditions": {}, "encoder": None}
        opened = begin_evaluation(empty_store, run.id, **words, step=step, total=400)
        record_predictions(empty_store, opened, [make.prediction(id, sample) for sample in range(400)])
        finish_evaluation(empty_store, opened, {"n": 400, "exact_match": right})
    monkeypatch.setenv(webhook.VARIABLE, "http://127.0.0.1:9/x")
    monkeypatch.setattr(webhook, "send", lambda event, text, **facts: True)
    assert herald.send_findings(empty_store) > 0
    told = [event.message for event in list_events(empty_store, run.id) if event.kind == herald.EVENT]
    assert any("Reward 0.17 → 0.76" in message for message in told)
    page = open_page("emergence", run=run.uid)
    shown = " ".join(element.value for element in (*page.markdown, *page.caption))
    for message in told:
        assert format.literal(message.partition(": ")[2]) in shown
