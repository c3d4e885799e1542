"""The page of a sweep: best setting, pictures, kept values, and all runs paused, resumed, stopped and extended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from store.db.engine import Store, open_store
from store.experiments import get_experiment, list_experiments
from store.jobs import list_jobs
from tests import overlaid
from tests.pages.conftest import copied
from trainer import launch
from trainer.launch.experiments import launch_experiment
from trainer.spec.experiments import Matrix

Open = Callable[..., AppTest]
MATRIX = Matrix(arms=("GRPO CoT",), seeds=(0, 1), varied=(("grpo.beta", (0, 0.02)),), benchmarks=("shapes-simple",))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("overlaid")
    store = open_store(str(folder / "runs.db"))
    overlaid.fill(store, seeds=3, steps=24)
    store.close()
    return folder


@pytest.fixture
def arms(experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return copied(experiment, tmp_path / "data", monkeypatch)


@pytest.fixture
def queued(empty_store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(launch, "ensure_worker", lambda store: None)
    launch_experiment(empty_store, "betas", MATRIX)
    return empty_store


def words(app: AppTest) -> str:
    return "\n".join(each.value for each in (*app.markdown, *app.caption, *app.error)).replace("\\", "")


def table(app: AppTest, column: str) -> list[object]:
    frame = next(each.value for each in app.dataframe if column in each.value)
    return frame[column].tolist()


def test_the_best_setting_comes_first_with_its_interval_over_seeds(arms: Store, open_page: Open) -> None:
    app = open_page("sweep", metric="reward")
    assert table(app, "arm")[0] == "GRPO CoT" and table(app, "lora.rank")[0] == 64
    assert table(app, "n") == [3] * 8
    assert all(
        low < mean < high for low, mean, high in zip(*(table(app, c) for c in ("95 % from", "mean", "to")), strict=True)
    )
    assert "95 % interval" in words(app) and "over 3 seeds" in words(app)
    assert "of 7 other settings" in words(app)
    app = open_page("sweep", metric="reward", better="lower")
    assert table(app, "arm")[0] == "GRPO random reward"


@pytest.mark.parametrize("picture", ["Parallel axes", "Scatter", "Heat map"])
def test_every_picture_draws(arms: Store, open_page: Open, picture: str) -> None:
    app = open_page("sweep", picture=picture)
    assert len(app.get("plotly_chart")) == 1


def test_kept_values_select_runs(arms: Store, open_page: Open) -> None:
    app = open_page("sweep", keep="lora.rank 64,arm GRPO CoT")
    assert "3 runs selected" in words(app)
    assert table(app, "n") == [3]
    app.multiselect(key="sweep.keep").set_value([]).run()
    assert "keep" not in app.query_params and "selected" not in words(app)


def test_an_experiment_in_the_queue_is_paused_resumed_extended_and_stopped(queued: Store, open_page: Open) -> None:
    uid = list_experiments(queued)[0].uid
    app = open_page("sweep", experiment=uid)
    assert "0 of 4 runs finished, 4 queued." in words(app)
    assert app.button(key="resume_all").disabled
    app.button(key="pause_all").click().run()
    assert not list_jobs(queued, open_only=True) and not app.exception
    app.button(key="resume_all").click().run()
    assert len(list_jobs(queued, open_only=True)) == 4
    app.number_input(key="extend.seeds").set_value(3)
    app.text_input(key="extend.grpo.beta").set_value("0.1, much")
    submit(app)
    assert len(get_experiment(queued, uid).arms) == 4, "one of the values is not a number"
    app.text_input(key="extend.grpo.beta").set_value("0.1")
    app.number_input(key="extend.seeds").set_value(3)
    submit(app)
    assert len(get_experiment(queued, uid).arms) == 9
    app.button(key="stop_all").click().run()
    assert not list_jobs(queued, open_only=True) and not app.exception


def submit(app: AppTest) -> None:
    next(button for button in app.button if button.label == "Launch new runs").click().run()
    assert not app.exception


def test_an_experiment_that_has_ended_has_nothing_to_pause(arms: Store, open_page: Open) -> None:
    app = open_page("sweep")
    assert "24 of 24 runs finished." in words(app)
    assert app.button(key="pause_all").disabled and app.button(key="stop_all").disabled
    assert app.button(key="resume_all").help == "It has no stopped jobs."
    assert not app.get("progress"), "a run that ended early is finished, too"


def test_without_a_step_it_says_what_to_do(empty_store: Store, open_page: Open) -> None:
    assert "launch an experiment that varies a setting" in words(open_page("sweep"))


def test_before_the_first_step_the_newest_experiment_is_there_to_act_on(queued: Store, open_page: Open) -> None:
    app = open_page("sweep")
    assert "results appear after the first one" in words(app) and "launch an experiment" not in words(app)
    assert not app.button(key="pause_all").disabled


def test_further_settings_are_launched_from_the_form(
    empty_store: Store, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "ensure_worker", lambda store: None)
    app = open_page("launch")
    app.multiselect(key="experiment.arms").set_value(["GRPO CoT"])
    app.text_area(key="experiment.varied").set_value("grpo.beta = 0, 0.02\nmax_tokens=32,48,64").run()
    assert "12 runs (12 with training)" in words(app)
    next(button for button in app.button if button.label == "Launch experiment").click().run()
    (made,) = list_experiments(empty_store)
    assert len(made.arms) == 12 and not app.exception
