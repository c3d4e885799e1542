"""The System page: what is off is said with what to do, and what no run needs is removed on request."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.system import health, machine
from app.system.machine import Device, Devices
from store.care import orphans, state
from store.care.orphans import Orphans
from store.care.state import DatabaseState
from store.db.engine import MEDIA_VARIABLE, Store, open_store
from store.db.states import JobState
from store.examples import add_examples
from store.jobs import end_job, list_jobs
from tests import seeded
from tests.store import make

Open = Callable[..., AppTest]
GIB = 1024**3
FINE = DatabaseState("/x.db", "sqlite", "0001", GIB, 0, 10_000, "wal", {}, 3, 300)
REST = health.Work(0, 0, (), ())
NONE = Orphans(0, 0, (), (), 0)


def said(app: AppTest) -> str:
    tables = " ".join(str(cell) for each in app.table for cell in each.value.to_numpy().flat)
    return " ".join([*(each.value for each in app.text), *(each.value for each in app.markdown), tables])


def test_a_healthy_machine_needs_no_advice() -> None:
    assert health.advice(FINE, 100 * GIB, REST, NONE, None) == []
    assert health.of_devices(Devices((), None, 2)) is None
    assert health.of_devices(Devices((Device("H", GIB, GIB),), "13.0", 2)) is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"free": GIB}, "Only 1.0 GiB of disk space are free"),
        ({"state": FINE._replace(mode="delete")}, "is in delete mode"),
        ({"state": FINE._replace(log_size=GIB)}, "write-ahead log has grown to 1.0 GiB"),
        ({"state": FINE._replace(free=0.6 * GIB)}, "back up and restore to shrink it"),
        ({"work": health.Work(2, 0, ("box",), ())}, "2 jobs are queued, but the worker on box has exited"),
        ({"work": health.Work(0, 1, (), ("counting",))}, "counting has stopped reporting"),
        ({"orphans": Orphans(1, 1, (), (), GIB)}, "1.0 GiB are used by data that no run needs"),
        ({"webhook": "It must be https."}, "It must be https."),
    ],
)
def test_one_thing_that_is_off_is_one_sentence(changed: dict[str, object], words: str) -> None:
    facts = {"state": FINE, "free": 100 * GIB, "work": REST, "orphans": NONE, "webhook": None}
    (sentence,) = health.advice(**(facts | changed))  # type: ignore[arg-type]
    assert words in sentence


def test_the_devices_are_asked_of_a_process_of_its_own() -> None:
    found = machine.devices()
    assert found.problem is None
    assert found.threads >= 1


@pytest.mark.parametrize("code", ["print('no json')", "import sys; sys.exit('no torch')", "print('{}')"])
def test_a_trainer_that_cannot_say_is_a_sentence(code: str) -> None:
    assert "could not report" in str(machine.devices((sys.executable, "-c", code)).problem)


def test_a_cuda_build_without_a_gpu_is_said() -> None:
    assert "no GPU is found" in str(health.of_devices(Devices((), "13.0", 2)))


def test_the_state_of_a_database(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "x.db"))
    make.steps(store, make.run(store).id, 3)
    add_examples(store, [make.example()])
    found = state.describe(store)
    assert (found.mode, found.driver, found.images, found.image_bytes) == ("wal", "sqlite", 1, len(make.image()))
    assert (found.rows["runs"], found.rows["examples"]) == (1, 1)
    assert found.size == (tmp_path / "x.db").stat().st_size
    assert found.log_size == (tmp_path / "x.db-wal").stat().st_size
    store.close()


def test_the_page_says_where_the_database_is_and_what_it_holds(seeded_store: Store, open_page: Open) -> None:
    app = open_page("system")
    shown = said(app)
    assert str(seeded_store.folder) in shown.replace("\\", "")
    assert "(wal)" in shown.replace("\\", "")
    assert app.button(key="orphans_yes")


def test_orphans_go_on_request(seeded_store: Store, open_page: Open) -> None:
    for job in list_jobs(seeded_store, open_only=True):
        end_job(seeded_store, job.id, JobState.STOPPED)
    add_examples(seeded_store, [make.example("nobody's")])
    assert orphans.find(seeded_store).any
    open_page("system").button(key="orphans_yes").click().run()
    assert not orphans.find(seeded_store).any


def test_orphans_stay_while_something_is_at_work(seeded_store: Store, open_page: Open) -> None:
    assert seeded.find(seeded_store, "shapes-grpo-no-steps").status == "running"
    add_examples(seeded_store, [make.example("nobody's")])
    app = open_page("system").button(key="orphans_yes").click().run()
    assert "is running" in app.toast[0].value
    assert orphans.find(seeded_store).any


def test_images_that_cannot_be_reached_are_said_and_the_page_stays(
    seeded_store: Store, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MEDIA_VARIABLE, "http://127.0.0.1:1/images")
    app = open_page("system")
    warned = app.warning[0].value.replace("\\", "").replace("\u2060", "")  # which keep an address from becoming a link
    assert "http://127.0.0.1:1/images cannot be used" in warned
    assert "in http://127.0.0.1:1/images" in said(app).replace("\\", "").replace("\u2060", "")
    assert "Clean up and back up" not in [each.value for each in app.header]
