"""The experiment that comes with the project: every page shows it, in a database of this version, and it goes again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app import demo, recorded, recorded_view
from app.shared import data
from scripts import record_demo
from store.db.engine import Store, open_store
from store.evaluations.records import begin_evaluation, record_predictions
from store.examples import add_examples
from store.experiments import list_experiments
from store.jobs import list_jobs
from store.runs import list_run_heads
from store.steps import record_step
from tests.pages.conftest import copied
from tests.store import make
from trainer import launch
from trainer.spec.config import PRESETS

Open = Callable[..., AppTest]
PAGES = ("run", "traces", "emergence", "find", "rewards", "compare", "drift")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database of the recorded runs."""
    folder = tmp_path_factory.mktemp("recorded")
    store = open_store(str(folder / "runs.db"))
    assert recorded.load(store) == len(recorded.manifest().runs) >= 2
    assert recorded.load(store) == 0
    store.close()
    return folder


@pytest.fixture
def store(loaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return copied(loaded, tmp_path / "data", monkeypatch)


def words(app: AppTest) -> str:
    return "\n".join(each.value for each in (*app.markdown, *app.caption, *app.info, *app.text))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_it_under_a_banner(store: Store, open_page: Open, page: str) -> None:
    app = open_page(page)
    assert "**Recorded** on" in words(app)
    assert not app.info and not app.warning
    assert "recorded" in app.selectbox(key="run_in_view").options[0]


def test_its_runs_meet_in_one_experiment_and_are_told_apart(store: Store, open_page: Open) -> None:
    (experiment,) = list_experiments(store)
    assert len(experiment.arms) == len(recorded.manifest().runs)
    table = open_page("runs").dataframe[0].value
    assert {tuple(states) for states in table["status"]} == {("recorded",)}


def test_every_stop_of_the_tour_opens(store: Store, open_page: Open) -> None:
    assert len(recorded_view.stops()) == 7
    for number, stop in enumerate(recorded_view.stops(), 1):
        app = open_page(stop.page, **recorded_view.stop_parameters(number))
        assert f"**Stop {number} of 7 · {stop.title}.**" in words(app)
        assert not app.warning or stop.title == "Reward can be gamed"


def test_one_click_removes_it_and_nothing_else(store: Store, open_page: Open) -> None:
    own = make.run(store, "mine")
    app = open_page("run", run=next(iter(recorded.manifest().runs)))
    app.button(key="remove_recorded").click().run()
    assert not app.exception
    assert [run.uid for run in list_run_heads(store)] == [own.uid]
    assert list_experiments(store) == []


def test_runs_of_ones_own_with_data_are_shown_first(store: Store, open_page: Open) -> None:
    own = make.run(store, "mine")
    assert "recorded" in open_page("traces").selectbox(key="run_in_view").format_func(
        open_page("traces").selectbox(key="run_in_view").value
    )
    make.steps(store, own.id, 2)
    data.forget()
    assert open_page("run").selectbox(key="run_in_view").value == own.uid


def test_the_demo_starts_beside_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "ensure_worker", lambda store: None)
    assert "Demo started" in demo.start_once(store)
    assert [job.run_name for job in list_jobs(store, open_only=True)] == list(demo.PRESETS)
    assert "without runs of your own" in demo.start_once(store)


def test_the_recorded_runs_are_in_before_the_demo_runs_are_queued(
    empty_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here: list[int] = []
    monkeypatch.setattr(
        launch, "ensure_worker", lambda store: here.append(len(recorded.recorded_runs(list_run_heads(store))))
    )
    assert demo.main() == 0
    assert here == [len(recorded.manifest().runs)] * len(demo.PRESETS)
    assert "Demo started" in capsys.readouterr().out


def test_a_page_opened_before_them_goes_on_by_itself(empty_store: Store, open_page: Open) -> None:
    app = open_page("traces")
    assert "No runs yet" in app.info[0].value
    recorded.load(empty_store)
    data.forget()
    app.run()  # as its refreshing part asks for
    assert "**Recorded** on" in words(app)


def test_the_tour_shows_what_the_runs_at_work_say(store: Store, open_page: Open) -> None:
    (example,) = add_examples(store, [make.example("live", question="How many in the live one?")])
    sft = make.run(store, "live-sft", method="sft")
    make.running_job(store, sft.id)
    assert "Latest group" not in words(open_page("tour"))
    conditions: dict[str, Any] = {"split": "val", "conditions": {}, "encoder": None, "total": 4}
    probe = begin_evaluation(store, sft.id, benchmark="shapes-simple", kind="probe", step=0, **conditions)
    record_predictions(store, probe, [make.prediction(example, text="<answer>7</answer>")])
    data.forget()
    app = open_page("tour")
    assert "**Held-out answer** · probe at step 0" in words(app)
    assert [each.value for each in app.code][-1] == "<answer>7</answer>"
    grpo = make.run(store, "live-grpo")
    make.running_job(store, grpo.id, host="there")
    record_step(store, grpo.id, 1, {"reward": 0.5}, at=1.0, completions=[make.completion(0, example_id=example)])
    make.run(store, "newest", method="sft")
    data.forget()
    assert "**Latest group** · step 1" in words(open_page("tour"))


def test_what_is_shipped_is_small_and_says_how_to_repeat_it() -> None:
    files = [path for path in recorded.FOLDER.iterdir() if path.is_file()]
    assert {path.name for path in files} == {"manifest.json", *recorded.manifest().runs.values()}
    for file, sha256 in recorded.manifest().hashes.items():
        assert hashlib.sha256((recorded.FOLDER / file).read_bytes()).hexdigest() == sha256
    assert sum(path.stat().st_size for path in files) <= record_demo.MOST_BYTES
    assert re.fullmatch("[0-9a-f]{40}", recorded.manifest().commit)
    presets = {word for command in recorded.manifest().commands for word in re.findall(r"--preset (\S+)", command)}
    assert presets and presets <= set(PRESETS)
    names = [file.removesuffix(".zip") for file in recorded.manifest().runs.values()]
    assert recorded.manifest().commands == record_demo.commands(names)
