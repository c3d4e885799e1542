"""A database that goes away in the middle of a run: the run goes on, and every step is stored once."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from store.completions.rows import list_groups
from store.db.engine import MEDIA_VARIABLE, Store, open_store
from store.db.rows import GroupRow, JobRef, RunRef, TokenRow
from store.events import list_events
from store.jobs import get_job
from store.metrics import read_clock
from store.recording.records import Sampled, StepRecord
from store.runs import get_run
from tests import postgres
from tests.training.conftest import SMALL
from trainer import launch
from trainer.jobs.job import execute
from trainer.record.spool import Spool
from trainer.spec import config

STEPS = 10
QUIET = {"optimization.steps": str(STEPS), "evaluation.probe_every": "100", "evaluation.val_every": "100"}


def test_what_waits_comes_back_as_it_was(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "not there yet" / "unwritten.jsonl")
    sampled = Sampled(text="<think>é\ufffd</think>", generation=1, group=0, row=3, truth=2, rewards={"format": None})
    measured = {0: TokenRow((1, 2), (0.5, None), (-0.1, None), (-0.2, -0.3))}
    metrics = {"loss": 0.1, "odd": None}
    records = [
        StepRecord(step=1, metrics=metrics, at=1.5, completions=(sampled,), measured=measured),
        StepRecord(step=2, at=2.5),
    ]
    assert list(spool.waiting()) == []
    for record in records:
        spool.add(record)
    with spool.path.open("a") as file:
        file.write('{"step": 3, "metr')  # the process was killed here
    assert list(spool.waiting()) == records
    assert spool.lost == 1
    spool.forget()
    assert list(spool.waiting()) == [] and not spool.path.exists()


def train_through(interrupt: Callable[[], None], store: Store, run: RunRef, job: JobRef) -> None:
    """Trains to the end while `interrupt` is at work; every step is recorded, some of them late."""
    outage = threading.Thread(target=interrupt)
    outage.start()
    code = execute(store, get_job(store, job.uid))
    outage.join()
    assert code == 0, get_job(store, job.uid).error
    assert read_clock(store, run.id).step.tolist() == list(range(1, STEPS + 1))
    assert any(event.kind == "recording_resumed" for event in list_events(store, run.id))


@pytest.mark.training
def test_a_run_outlives_an_outage_of_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEDIA_VARIABLE, str(tmp_path / "media"))
    settings = config.override(config.preset("shapes-grpo"), SMALL | QUIET)
    with postgres.startable() as (url, running):
        store = open_store(url)
        run, job = launch.create(store, settings)

        def interrupt() -> None:
            while get_run(store, run.id).step < 2:
                time.sleep(0.05)
            running.stop()
            while not list(tmp_path.rglob("unwritten.jsonl")):
                time.sleep(0.05)
            running.start()

        train_through(interrupt, store, run, job)
        rows = [
            [row for group in list_groups(store, run.id, step) for row in group.completions]
            for step in range(1, STEPS + 1)
        ]
        assert [len(each) for each in rows] == [16] * STEPS
        assert all(row.example for each in rows for row in each)
        assert not list(tmp_path.rglob("unwritten.jsonl"))
        store.close()


@pytest.mark.training
def test_a_run_outlives_an_outage_of_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    afar, away = tmp_path / "afar", tmp_path / "away"
    monkeypatch.setenv(MEDIA_VARIABLE, f"file://{afar}")
    store = open_store(str(tmp_path / "runs.db"))
    run, job = launch.create(store, config.override(config.preset("shapes-grpo"), SMALL | QUIET))

    def interrupt() -> None:
        while get_run(store, run.id).step < 2:
            time.sleep(0.02)
        afar.rename(away)
        afar.touch()  # a file, in which no image can be written
        while not list(tmp_path.rglob("unwritten.jsonl")):
            time.sleep(0.02)
        afar.unlink()
        away.rename(afar)

    train_through(interrupt, store, run, job)
    shown = {
        sha256 for step in range(1, STEPS + 1) for group in list_groups(store, run.id, step) for sha256 in images(group)
    }
    assert shown <= {path.name for path in afar.glob("*/*")}
    store.close()


def images(group: GroupRow) -> tuple[str, ...]:
    assert group.example is not None
    return group.example.images
