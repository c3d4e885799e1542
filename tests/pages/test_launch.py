"""The launch form: filled from presets and runs, checked while it is typed, and submitted once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.launch import earlier, form, plan, preflight
from app.launch import rewards as reward_rows
from app.shared import data, format
from store.db.connection import StoreError
from store.db.engine import Store, open_store
from store.jobs import add_job, beat_job, list_jobs
from store.runs import get_run, list_runs
from store.steps import record_step
from tests import seeded
from tests.pages import opening
from trainer import launch
from trainer.launch import cluster
from trainer.spec.command_line import command_line
from trainer.spec.config import PRESETS, RunConfig, from_dict, override, preset


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty database that the pages use; no worker is started."""
    path = tmp_path / "runs.db"
    monkeypatch.setenv("VR1Z_DATABASE_URL", str(path))
    monkeypatch.setattr(launch, "ensure_worker", lambda store: None)
    return open_store(str(path))


def page(**parameters: str) -> AppTest:
    return opening.address("launch", **parameters).run()


def field(at: AppTest, path: str):  # type: ignore[no-untyped-def]
    """The widget of a config field in the latest filling of the form."""
    return at.get_by_key(f"launch.{at.session_state['launch.generation']}.{path}")


def launch_button(at: AppTest):  # type: ignore[no-untyped-def]
    return next(button for button in at.button if button.label == "Launch")


def held(at: AppTest) -> str:
    """The command line that the page shows for what the form holds."""
    return at.code[-1].value


def test_every_field_of_the_config_has_a_widget_and_a_help_text(database: Store) -> None:
    at = page()
    assert not at.exception
    labels = {
        widget.label
        for kind in ("text_input", "number_input", "selectbox", "toggle", "text_area")
        for widget in at.get(kind)
    }
    labels |= {control.label for control in at.get("button_group")}
    elsewhere = ("visual_words", "try_rewards")  # shown with the rewards that they belong to
    missing = [f.path for f in form.FIELDS.values() if f.label not in labels and f.path not in elsewhere]
    assert not missing
    assert all(f.help for f in form.FIELDS.values())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_in_the_address_fills_the_form(database: Store, name: str) -> None:
    at = page(preset=name)
    assert not at.exception
    assert held(at) == " ".join(command_line(preset(name)))


def test_a_click_on_a_preset_fills_the_form_again_after_edits(database: Store) -> None:
    at = page()
    field(at, "optimization.steps").set_value(3).run()
    assert "optimization.steps=3" in held(at)
    at.button(key="preset-shapes-grpo").click().run()
    assert held(at) == " ".join(command_line(preset("shapes-grpo")))
    at.button(key="preset-shapes-sft").click().run()
    assert not at.exception
    assert held(at) == " ".join(command_line(preset("shapes-sft")))
    assert at.query_params["preset"] == "shapes-sft"


def test_an_unknown_preset_or_run_is_said_and_the_form_still_works(database: Store) -> None:
    for parameters in ({"preset": "nope"}, {"clone": "![x](http://example.org/x.png)"}):
        at = page(**parameters)
        assert not at.exception
        assert len(at.warning) == 1
        assert "![" not in at.warning[0].value
        assert not launch_button(at).disabled


def test_a_run_is_cloned_with_its_whole_config(database: Store) -> None:
    original = seeded.config("shapes-collapse", "seed=7", "lora.rank=8")
    run = seeded.new_run(database, original)
    at = page(clone=run.uid)
    assert not at.exception
    launch_button(at).click().run()
    cloned = next(row for row in list_runs(database) if row.uid != run.uid)
    assert cloned.name == "shapes-collapse-copy"
    assert cloned.parent_id == run.id
    assert from_dict(get_run(database, cloned.id).config) == original.model_copy(update={"name": cloned.name})


def test_what_does_not_fit_together_is_said_and_cannot_be_launched(database: Store) -> None:
    at = page()
    field(at, "grpo.group_size").set_value(7).run()
    assert not at.exception
    assert launch_button(at).disabled
    assert any("“Batch size” 64 is not a multiple of “Group size” 7" in error.value for error in at.error)
    field(at, "optimization.batch_size").set_value(63).run()
    assert not at.error
    assert not launch_button(at).disabled


def test_grpo_needs_a_reward(database: Store) -> None:
    at = page()
    for name in ("format", "accuracy", "steps"):
        field(at, f"rewards.{name}.on").set_value(False).run()
    assert launch_button(at).disabled
    assert "at least one component" in at.error[0].value


def test_launching_writes_the_run_and_opens_it_once(database: Store) -> None:
    at = page(preset="shapes-sft")
    field(at, "name").set_value("mine").run()
    launch_button(at).click().run()
    assert not at.exception
    [run] = list_runs(database)
    assert (run.name, run.method, run.status) == ("mine", "sft", "queued")
    assert at.query_params["run"] == run.uid


def test_where_a_run_goes_is_asked_where_a_cluster_is_named(database: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [choice for choice in page().segmented_control if choice.label == "Where"]
    started: list[Store] = []
    monkeypatch.setenv(cluster.ADDRESS, "http://127.0.0.1:8265")
    monkeypatch.setattr(cluster, "start_watcher", started.append)
    at = page(preset="shapes-sft")
    at.get_by_key("launch.launcher").set_value("ray").run()
    assert held(at).endswith(" --launcher ray")
    assert "Starts when a cluster node has free capacity." in [caption.value for caption in at.caption]
    launch_button(at).click().run()
    assert not at.exception
    assert "Waiting for the Ray cluster." in [caption.value for caption in at.caption]
    [job] = list_jobs(database)
    assert (job.launcher, job.state, len(started)) == ("ray", "queued", 1)
    reason = "Waiting for 1 CPU, 1 GPU on the Ray cluster."
    beat_job(database, job.id, reason)
    data.forget()
    at.switch_page("../pages/run.py").run()
    assert format.literal(reason) in [caption.value for caption in at.caption]


def test_an_experiment_goes_to_the_cluster(database: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cluster.ADDRESS, "http://127.0.0.1:8265")
    monkeypatch.setattr(cluster, "start_watcher", lambda store: None)
    at = page()
    at.get_by_key("experiment.launcher").set_value("ray").run()
    next(button for button in at.button if button.label == "Launch experiment").click().run()
    assert not at.exception
    assert {job.launcher for job in list_jobs(database)} == {"ray"}


def test_a_double_click_launches_once_and_a_later_one_again(database: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stay(*_: object, **__: object) -> None:
        """As when the second click interrupts the way to the run's page."""

    monkeypatch.setattr("streamlit.switch_page", stay)
    at = page()
    launch_button(at).click().run()
    launch_button(at).click().run()
    assert len(list_runs(database)) == 1
    at.run()
    launch_button(at).click().run()
    assert len(list_runs(database)) == 2


def test_a_fault_of_the_launcher_is_a_sentence(database: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StoreError("The disk is full: free some space.")

    monkeypatch.setattr(launch, "submit", refuse)
    at = page()
    launch_button(at).click().run()
    assert not at.exception
    assert "The disk is full" in at.error[0].value


def test_the_live_example_shows_what_each_reward_pays(database: Store) -> None:
    at = page()
    sentences = [caption.value for caption in at.caption]
    assert any("2 × 1 \\= 2" in sentence for sentence in sentences)
    [example] = [area for area in at.text_area if area.label.startswith("Example completion")]
    example.set_value("I guess 3").run()
    assert not at.exception
    assert any("2 × 0 \\= 0" in caption.value for caption in at.caption)


def test_direct_answers_have_no_reasoning_rewards() -> None:
    config = from_dict({"style": "direct"})
    example = plan.example_of("shapes-simple", 0)
    assert example is not None
    text = plan.right_completion(config, example)
    assert text == f"<answer>{example.answer}</answer>"
    pays = plan.reward_values(text, example.answer, config)
    assert (pays["format"].value, pays["accuracy"].value, pays["steps"].value) == (1.0, 1.0, None)


def test_the_right_completion_is_paid_in_full() -> None:
    for seed in range(20):
        example = plan.example_of("shapes-complex", seed)
        assert example is not None
        pays = plan.reward_values(plan.right_completion(RunConfig(), example), example.answer, RunConfig())
        assert (pays["format"].value, pays["accuracy"].value) == (1.0, 1.0)
        assert pays["steps"].value == pytest.approx(0.1 * example.answer)


def test_the_plan_counts_sequences_and_passes() -> None:
    assert plan.plan(RunConfig())[:2] == [
        "170 updates of 64 sequences: 8 prompts × groups of 8.",
        "1,360 prompts in total: 0.68 passes over the 2,000 training examples.",
    ]
    assert plan.plan(preset("shapes-sft"))[0] == "600 updates of 32 references."
    assert plan.plan(from_dict({"method": "none"}))[0].startswith("No training")


REWARD = "def brevity(completions, **columns):\n    return [0.0 for _ in completions]\n\ndef _helper():\n    pass\n"


@pytest.fixture
def rewards_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "rewards"
    folder.mkdir()
    (folder / "mine.py").write_text(REWARD)
    (folder / "broken.py").write_text("def (:")
    (tmp_path / "outside.py").write_text(REWARD)
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    monkeypatch.setenv(reward_rows.FOLDER_VARIABLE, str(folder))
    return folder


def test_rewards_from_files_are_listed_without_running_them(rewards_folder: Path) -> None:
    assert reward_rows.list_reward_functions(reward_rows.folder()) == [f"{rewards_folder / 'mine.py'}:brevity"]


@pytest.mark.parametrize("name", ["{0}/../outside.py:brevity", "{0}/link.py:brevity", "/etc/x.py:f", "mine.py:brevity"])
def test_rewards_from_elsewhere_are_refused(rewards_folder: Path, name: str) -> None:
    assert reward_rows.forbidden([{"name": name.format(rewards_folder)}])
    assert not reward_rows.forbidden([{"name": f"{rewards_folder / 'mine.py'}:brevity"}, {"name": "format"}])


def test_without_a_folder_no_file_is_offered_and_a_cloned_one_is_refused(database: Store, tmp_path: Path) -> None:
    assert reward_rows.list_reward_functions(reward_rows.folder()) == []
    (tmp_path / "mine.py").write_text(REWARD)
    rewards = [{"name": "format"}, {"name": f"{tmp_path / 'mine.py'}:brevity"}]
    run = seeded.new_run(database, from_dict({"rewards": rewards}))
    at = page(clone=run.uid)
    assert not at.exception
    assert launch_button(at).disabled
    assert "code from a file" in at.error[0].value


def test_a_reward_from_the_folder_can_be_launched(database: Store, rewards_folder: Path) -> None:
    at = page()
    name = f"{rewards_folder / 'mine.py'}:brevity"
    next(box for box in at.multiselect if box.label == "Rewards from files").set_value([name]).run()
    assert not at.exception
    launch_button(at).click().run()
    [run] = list_runs(database)
    assert get_run(database, run.id).reward_weights["brevity"] == 1.0


def answer_with(text: str, code: int = 0) -> tuple[str, ...]:
    """A stand-in for `python -m trainer` that prints `text`, whatever it is asked."""
    return (
        sys.executable,
        "-c",
        f"import sys; print({text!r}); print('no such model', file=sys.stderr); sys.exit({code})",
    )


def test_a_preflight_reports_its_checks() -> None:
    found = {"checks": [{"name": "disk", "level": "warn", "sentence": "Only 1 GiB."}], "prompt": "<image>How many?"}
    report = preflight.run_preflight(RunConfig(), command=answer_with(json.dumps(found)))
    assert report == preflight.Report((preflight.Check("disk", "warn", "Only 1 GiB."),), "<image>How many?")


@pytest.mark.parametrize("text", ["", "Traceback", "[]", '{"checks": [{"name": "x"}]}', '{"checks": 3}'])
def test_a_preflight_that_fails_says_why(text: str) -> None:
    [check] = preflight.run_preflight(RunConfig(), command=answer_with(text, 1)).checks
    assert check.level == "fail"
    assert "no such model" in check.sentence


def test_a_preflight_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "TIME_LIMIT", 0.2)
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    [check] = preflight.run_preflight(RunConfig(), command=command).checks
    assert "more than" in check.sentence


def test_the_preflight_is_shown_until_the_form_changes(database: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    report = preflight.Report((preflight.Check("memory", "ok", "It *fits*."),), "<image> prompt")
    monkeypatch.setattr(preflight, "run_preflight", lambda config: report)
    at = page()
    next(button for button in at.button if button.label == "Preflight").click().run()
    assert not at.exception
    assert any(caption.value == "memory\\: It \\*fits\\*\\." for caption in at.caption)
    field(at, "seed").set_value(5).run()
    assert any("changed since" in caption.value for caption in at.caption)


def test_the_estimated_memory_is_a_bar_with_its_parts(database: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"peak": 3 * 1024**3, "available": 4 * 1024**3, "parts": {"weights": 2 * 1024**3, "logits": 1024**3}}
    report = preflight.run_preflight(RunConfig(), command=answer_with(json.dumps({"checks": [], "memory": numbers})))
    monkeypatch.setattr(preflight, "run_preflight", lambda config: report)
    at = page()
    next(button for button in at.button if button.label == "Preflight").click().run()
    assert not at.exception
    [bar] = at.get("progress")
    assert bar.value == 75
    assert any(caption.value == "weights 2\\.0 GiB, logits 1\\.0 GiB" for caption in at.caption)


def test_one_update_is_timed_on_request(database: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def report(config: RunConfig, *, measure: bool = False) -> preflight.Report:
        asked.append(measure)
        pace = (preflight.Check("pace", "ok", "It took 2 s."),) if measure else ()
        return preflight.Report((preflight.Check("device", "ok", "A GPU."), *pace))

    monkeypatch.setattr(preflight, "run_preflight", report)
    at = page()
    next(button for button in at.button if button.label == "Preflight").click().run()
    next(button for button in at.button if button.label == "Time one update").click().run()
    assert not at.exception
    assert asked == [False, True]
    assert any("It took 2 s" in caption.value for caption in at.caption)
    assert not [button for button in at.button if button.label == "Time one update"]


def test_the_pace_of_earlier_runs_of_the_same_settings_is_told(database: Store) -> None:
    small = preset("shapes-grpo")
    assert earlier.seconds_per_step(small) is None
    run = seeded.new_run(database, small)
    for step in (1, 2, 3):
        record_step(database, run.id, step, {"loss": 1.0}, at=2.0 * step)
    data.forget()
    assert earlier.seconds_per_step(small) == 2.0
    assert earlier.seconds_per_step(override(small, {"optimization.accumulation": "2"})) is None
    assert any("took 2.0 s per update" in text.value for text in page(preset="shapes-grpo").text)


def test_jobs_before_it_are_counted(database: Store) -> None:
    assert any(caption.value == "Starts immediately." for caption in page().caption)
    run = seeded.new_run(database, preset("shapes-grpo"))
    add_job(database, run.id, "train", {})
    data.forget()
    assert any(caption.value == "Starts after 1 other job." for caption in page().caption)
