"""The compare page, the experiment form and what follows an experiment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas
import pytest
from streamlit.testing.v1 import AppTest

from store.db.engine import Store
from store.db.states import JobState
from store.experiments import list_experiments
from store.jobs import add_job, end_job
from store.runs import get_run, list_runs
from tests import compared, seeded
from trainer import launch
from trainer.spec.config import from_dict

Open = Callable[..., AppTest]


def htmls(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def words(app: AppTest) -> str:
    elements = (*app.title, *app.caption, *app.text, *app.info, *app.error, *app.header, *app.markdown)
    return "\n".join(element.value for element in elements)


def test_without_runs_it_points_to_the_launch(empty_store: Store, open_page: Open) -> None:
    assert "No runs yet" in words(open_page("compare"))


def test_without_tests_it_says_what_to_do(empty_store: Store, open_page: Open) -> None:
    seeded.new_run(empty_store, seeded.config("shapes-grpo"))
    assert "No run has been tested yet" in words(open_page("compare"))


def test_the_three_tables_with_measured_and_reported_rows(empty_store: Store, open_page: Open) -> None:
    compared.fill(empty_store, compared.TABLES, n=12)
    app = open_page("compare")
    shown = htmls(app)
    assert [each.value for each in app.header][:3] == [
        "Accuracy and similarity to the reference reasoning",
        "Benchmarks not used in training",
        "LoRA rank",
    ]
    assert shown.count("<tr class='measured'>") == 3 + 4 + 4 + 4 * 3
    assert shown.count("<tr class='reported'>") == 6 + 3 + 4
    assert "between two checkpoints" in shown and "traces?run=" in shown
    assert "only GRPO CoT r64 · tiny right" in app.segmented_control(key="compare.outcome").options[0]


def test_any_method_is_set_against_every_other(empty_store: Store, open_page: Open) -> None:
    compared.fill(empty_store, compared.TABLES, n=12)
    app = open_page("compare")
    assert "GRPO CoT r32 against every other" in [each.value for each in app.header]
    choice = app.selectbox(key="compare.against")
    assert choice.options[0] == "GRPO CoT r32 · tiny"
    choice.set_value(next(each for each in list_runs(empty_store) if each.method == "sft" and each.lora_rank == 64).uid)
    assert "SFT CoT r64 against every other" in [each.value for each in app.run().header]


def test_chosen_runs_only(empty_store: Store, open_page: Open) -> None:
    compared.fill(empty_store, compared.TABLES, n=8)
    uids = [run.uid for run in list_runs(empty_store) if run.lora_rank == 32]
    app = open_page("compare", runs=",".join(uids))
    assert "2 runs selected" in words(app)
    assert htmls(app).count("<tr class='measured'>") == 2 + 2 + 3


def test_other_conditions_are_said_to_be_not_comparable(empty_store: Store, open_page: Open) -> None:
    compared.fill(empty_store, replace(compared.TABLES, ranks=(32,)), n=8, decoding={"SFT CoT": {"max_tokens": 40}})
    assert "not comparable: token limit 112 vs 40" in htmls(open_page("compare"))


def frames(app: AppTest) -> dict[str, pandas.DataFrame]:
    """Tables by the first of their column names that tells them apart."""
    found = {}
    for frame in app.dataframe:
        names = set(frame.value.columns)
        key = next((name for name in ("measured at", "prompt hash", "MAE of answers") if name in names), "other")
        found[key] = frame.value
    return found


def test_runs_at_equal_cost_say_from_what_each_figure_was_taken(empty_store: Store, open_page: Open) -> None:
    compared.fill(empty_store, replace(compared.TABLES, ranks=(32,)), n=8)
    app = open_page("compare")
    assert "**At 1,600 training examples seen**" in words(app)
    at_equal = frames(app)["measured at"]
    assert list(at_equal["measured at"]) == ["step 0: 0 examples", "step 200: 1,600 examples"]
    assert list(at_equal["next measured at"]) == ["step 300: 9,600 examples", "–"]
    app.segmented_control(key="compare.budget").set_value("device seconds").run()
    assert "**At 200 device seconds of training**" in words(app)
    app.segmented_control(key="compare.source").set_value("probe").run()
    assert "No trained run has validation results yet." in words(app)


def test_the_conditions_of_each_arm(empty_store: Store, open_page: Open) -> None:
    """A run that is not among the chosen ones counts as a configuration that was tried."""
    compared.fill(empty_store, compared.TABLES, n=8)
    uids = [run.uid for run in list_runs(empty_store) if run.lora_rank == 32]
    app = open_page("compare", runs=",".join(uids))
    app.session_state["compare.conditions"] = True
    told = frames(app.run())["prompt hash"].set_index("run")
    grpo = told.loc["grpo-cot-tiny-r32-s0"]
    expected = {"updates": 200, "examples": 1600, "device seconds": 200, "tokens": 180_000, "n": 8}
    assert {name: int(grpo[name]) for name in expected} == expected
    assert int(grpo["generated tokens"]) == 2 * 20 * 64 and int(grpo["configurations tried"]) == 2
    assert grpo["checkpoint"] == "best validation accuracy" and grpo["encoder"] == "all-MiniLM-L6-v2"
    assert "prompt hash" in told.columns and "max_tokens 112" in grpo["decoding"]


def test_totals_are_scored_under_one_definition_that_is_said(empty_store: Store, open_page: Open) -> None:
    compared.fill(empty_store, replace(compared.TABLES, ranks=(32,)), n=4)
    settings = get_run(empty_store, seeded.find(empty_store, "grpo-cot-tiny-r32-s0").id)
    drawn = compared.shapes.examples("simple", "test", 4, 0)
    config = from_dict(settings.config)
    for step in (0, 100):
        compared.measure(
            empty_store, settings.id, config, compared.conditions(config), drawn, kind="probe", step=step, progress=1.0
        )
    app = open_page("compare")
    assert "Total = 2 × accuracy + 2 × format + 0.25 × steps" in words(app).replace("\\", "")
    app.selectbox(key="compare.definition").set_value("Custom weights").run()
    app.number_input(key="compare.weight.format").set_value(1.5).run()
    assert not app.exception and "Total = 1.5 × format" in words(app).replace("\\", "")
    app.segmented_control(key="compare.answers").set_value("sampled").run()
    assert "did not record all components" in words(app)


def test_prose_has_no_share_of_steps_that_equal_the_count(empty_store: Store, open_page: Open) -> None:
    compared.fill(empty_store, replace(compared.TABLES, ranks=(32,)), n=30)
    more = frames(open_page("compare"))["MAE of answers"].set_index("run")["steps = count"]
    numbered = frames(open_page("compare"))["MAE of answers"].set_index("run")["numbered steps"]
    assert (more[numbered == 0].isna()).all() and (numbered > 0).any()


def test_the_progress_of_an_experiment_with_what_failed(empty_store: Store, open_page: Open) -> None:
    uid = compared.fill(empty_store, compared.TABLES, n=8)
    run = seeded.find(empty_store, "grpo-cot-tiny-r32-s0")
    job = add_job(empty_store, run.id, "evaluate", {"benchmark": "shapes-hard"})
    end_job(empty_store, job.id, JobState.FAILED, error="Checkpoint 'best' does not exist.")
    shown = words(open_page("compare", experiment=uid))
    assert "Checkpoint 'best' does not exist." in shown


def test_an_experiment_is_launched_in_one_action(
    empty_store: Store, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "ensure_worker", lambda store: None)
    app = open_page("launch")
    app.text_input(key="experiment.ranks").set_value("8, 16")
    app.text_input(key="experiment.name").set_value("mine").run()
    assert "5 runs (4 with training), each evaluated on 3 benchmarks" in words(app)
    next(button for button in app.button if button.label == "Launch experiment").click().run()
    assert not app.exception
    (made,) = list_experiments(empty_store)
    assert (made.name, len(made.arms)) == ("mine", 5)
    assert {run.lora_rank for run in list_runs(empty_store)} == {None, 8, 16}


@pytest.mark.parametrize(("field", "value"), [("ranks", "many"), ("ranks", "0"), ("rates", "fast")])
def test_what_cannot_be_launched_is_said(empty_store: Store, open_page: Open, field: str, value: str) -> None:
    app = open_page("launch")
    app.text_input(key=f"experiment.{field}").set_value(value).run()
    assert not app.exception and app.error
    assert not [button for button in app.button if button.label == "Launch experiment"]
