"""A job of another host is judged by its heartbeat alone, and findings reach the webhook once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.emergence import webhook as herald
from app.pulse import Pulse
from app.shared import status
from store.db.engine import Store, open_store
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
    pulse = Pulse(clock)

    def said() -> str | None:
        pulse.look(list_jobs(store, open_only=True))
        run = replace(list_runs(store)[0], spoke_at=0.0)
        return status.silence(run, 10.0**10, pulse.still_for(run.job_id, run.host))

    assert said() is None
    clock.now = 50.0
    beat_job(store, job_id)
    assert said() is None
    clock.now = 50.0 + status.STILL_AFTER
    assert said() is None
    clock.now += 30
    assert said() == "silent for 1 min 30 s: no heartbeat comes from gpu-box, look there"
    beat_job(store, job_id)
    assert said() is None


def test_a_job_elsewhere_is_never_closed_from_here(elsewhere: tuple[Store, int]) -> None:
    store, _ = elsewhere
    assert endings.close_gone(store) == []
    assert list_runs(store)[0].status == "running"


def test_a_job_of_this_host_is_judged_by_its_process() -> None:
    pulse = Pulse(Clock())
    assert pulse.still_for(1, identity.host()) is None
    assert pulse.still_for(1, None) is None
    assert pulse.still_for(1, "never-looked-at") is None


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
    assert herald.tell_findings(store) == 0
    monkeypatch.setenv(webhook.VARIABLE, "http://127.0.0.1:9/x")
    monkeypatch.setattr(webhook, "tell", tell)
    count = herald.tell_findings(store)
    assert count == len(told) > 0
    assert {event for event, _ in told} == {"finding"}
    assert herald.tell_findings(store) == 0
    assert len([event for event in list_events(store, run_id) if event.kind == herald.EVENT]) == count
