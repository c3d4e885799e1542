"""The runs page: what is going on, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.runs import table as runs_table
from app.shared import data, intents
from store.db import ownership
from store.db.engine import Store, StoreError
from store.jobs import add_job, get_job, list_jobs
from store.runs import describe_run, list_runs, resolve_run
from tests import seeded
from trainer import launch
from trainer.launch import identity

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "ensure_worker", lambda store: None)


def texts(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.markdown, *app.caption, *app.text, *app.toast))


def select(app: AppTest, *names: str) -> AppTest:
    """What a click on the rows' boxes leaves behind."""
    shown = list(app.dataframe[0].value["name"])
    uids = app.session_state[runs_table.ORDER]
    app.session_state[runs_table.SELECTED] = [uids[shown.index(name)] for name in names]
    return app.run()


def test_first_visit_explains_and_offers_the_demo(empty_store: Store, open_page: Open) -> None:
    app = open_page("runs")
    assert "elicited by reward" in texts(app)
    assert not app.dataframe
    app.button(key="start_demo").click().run()
    assert [run.name for run in list_runs(empty_store)] == ["demo-sft", "demo-grpo"]
    assert {job.state for job in list_jobs(empty_store)} == {"queued"}


def test_the_table_shows_every_run(seeded_store: Store, open_page: Open) -> None:
    table = open_page("runs").dataframe[0].value
    assert sorted(table["name"]) == sorted(run.name for run in list_runs(seeded_store))
    rows = table.set_index("name")
    assert rows.loc["shapes-grpo", "progress"] == 100
    assert rows.loc["smolvlm-256m-*r64*", "status"] == ["out of memory"]
    assert rows.loc["shapes-sft", "method"] == "SFT"
    assert rows.loc["shapes-grpo", "accuracy"].startswith("0.")
    assert len(rows.loc["shapes-grpo", "reward"]) <= 40


def test_what_runs_now_has_its_pace(seeded_store: Store, open_page: Open) -> None:
    assert "step 87 of 170 · 1.5 s per step · 2 min 6 s left · generating" in texts(open_page("runs"))


def test_what_waits_shows_its_place_and_its_expected_start(
    seeded_store: Store, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded.new_run(seeded_store, seeded.config("shapes-grpo", "name=second"))
    add_job(seeded_store, resolve_run(seeded_store, "second"), "train", {})
    monkeypatch.setattr(identity, "host", lambda: seeded.ELSEWHERE)
    shown = texts(open_page("runs"))
    assert "2 queued; next one starts in about 2 min 6 s" in shown
    assert "1. shapes-collapse (train) · starts in about 2 min 6 s" in shown
    assert "2. second (train) · starts in about" in shown
    run = seeded.find(seeded_store, "shapes-collapse")
    assert "Position 1 of 2 in the queue; starts in about 2 min 6 s." in texts(open_page("run", run=run.uid))


def test_the_queue_is_put_in_another_order_and_emptied(seeded_store: Store, open_page: Open) -> None:
    first = next(job for job in list_jobs(seeded_store, open_only=True) if job.state == "queued")
    seeded.new_run(seeded_store, seeded.config("shapes-grpo", "name=second"))
    second = add_job(seeded_store, resolve_run(seeded_store, "second"), "train", {})
    app = open_page("runs")
    assert app.button(key=f"earlier_{first.uid}").disabled and app.button(key=f"later_{second.uid}").disabled
    app.button(key=f"earlier_{second.uid}").click().run()
    assert "1. second (train)" in texts(app) and "2. shapes-collapse (train)" in texts(app)
    app.button(key=f"cancel_{first.uid}").click().run()
    assert get_job(seeded_store, first.uid).state == "stopped"
    assert "1 queued" in texts(app)


def test_filters_leave_what_matches_all_of_them(seeded_store: Store, open_page: Open) -> None:
    app = open_page("runs")
    app.multiselect(key="runs_method").set_value(["GRPO"]).run()
    assert "shapes-sft" not in list(app.dataframe[0].value["name"])
    app.multiselect(key="runs_status").set_value(["running"]).run()
    assert list(app.dataframe[0].value["name"]) == ["shapes-grpo-no-steps"]
    app.text_input(key="runs_search").set_value("nothing like it").run()
    assert not app.dataframe
    assert "No run matches these filters" in texts(app)


def test_a_selection_belongs_to_runs_not_to_rows(seeded_store: Store, open_page: Open) -> None:
    app = select(open_page("runs"), "shapes-sft")
    before = app.session_state[runs_table.KEY]["selection"]["rows"]
    seeded.new_run(seeded_store, seeded.config("shapes-grpo", "name=newest"))
    data.forget()
    app.run()
    assert app.session_state[runs_table.KEY]["selection"]["rows"] == [before[0] + 1]
    assert "1 selected" in texts(app)


def test_actions_fit_the_selection(seeded_store: Store, open_page: Open) -> None:
    app = open_page("runs")
    assert all(app.button(key=key).disabled for key in ("open", "stop", "resume", "clone", "delete"))
    select(app, "smolvlm-256m-*r64*")
    assert app.button(key="resume").disabled and "has no checkpoint on this machine" in app.button(key="resume").help
    seeded.with_checkpoint(seeded_store, "smolvlm-256m-*r64*")
    app.run()
    assert not app.button(key="resume").disabled
    assert app.button(key="stop").disabled
    select(app, "shapes-grpo-no-steps")
    assert app.button(key="resume").disabled
    assert app.button(key="delete").disabled
    assert not app.button(key="stop").disabled


def test_stop_takes_a_queued_run_out_of_the_queue(seeded_store: Store, open_page: Open) -> None:
    select(open_page("runs"), "shapes-collapse").button(key="stop").click().run()
    assert seeded.find(seeded_store, "shapes-collapse").status == "stopped"


def test_stop_insists_step_by_step(seeded_store: Store, open_page: Open) -> None:
    app = open_page("runs")
    key = first = f"stop_{seeded.find(seeded_store, 'shapes-grpo-no-steps').uid}"
    assert app.button(key=key).label == "Stop"
    for level, label in enumerate(("Terminate", "Kill", "Mark as lost"), start=2):
        app.button(key=key).click().run()
        assert seeded.find(seeded_store, "shapes-grpo-no-steps").status == "stopping"
        key = f"{first}_{level}"
        assert app.button(key=key).label == label
    app.button(key=key).click().run()
    assert seeded.find(seeded_store, "shapes-grpo-no-steps").status == "lost", "its host never answered"


def test_a_click_that_a_busy_page_takes_twice_does_not_insist(seeded_store: Store, open_page: Open) -> None:
    app = open_page("runs")
    key = f"stop_{seeded.find(seeded_store, 'shapes-grpo-no-steps').uid}"
    app.button(key=key).click().run()
    assert key not in {button.key for button in app.button}, "what was pressed is not what insists"


def test_resume_queues_a_run_again(seeded_store: Store, open_page: Open) -> None:
    seeded.with_checkpoint(seeded_store, "smolvlm-256m-*r64*")
    select(open_page("runs"), "smolvlm-256m-*r64*").button(key="resume").click().run()
    assert seeded.find(seeded_store, "smolvlm-256m-*r64*").status == "queued"


def test_resume_says_that_a_run_without_a_checkpoint_begins_anew(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "smolvlm-256m-*r64*")
    folder = ownership.folder_of(seeded_store, run.uid)
    assert ownership.claim(seeded_store, run.uid, folder)
    describe_run(seeded_store, run.id, output_dir=str(folder))
    button = select(open_page("runs"), run.name).button(key="resume")
    assert not button.disabled and button.help.startswith("Restarts from step 0 and replaces the steps so far")
    button.click().run()
    assert seeded.find(seeded_store, run.name).status == "queued"
    seeded.with_checkpoint(seeded_store, "shapes-sft")
    assert not intents.begins_anew(seeded.find(seeded_store, "shapes-sft"))


def test_deletion_asks_first_and_takes_the_folder_along(seeded_store: Store, open_page: Open) -> None:
    folder = seeded.with_checkpoint(seeded_store, "shapes-sft")
    app = select(open_page("runs"), "shapes-sft")
    app.button(key="delete").click().run()
    question = " ".join(text.value for text in app.text)
    assert f"checkpoints, and {folder} with its log" in question
    assert "evaluations with" in question
    assert seeded.find(seeded_store, "shapes-sft")
    app.button(key="deletion_yes").click().run()
    assert "shapes-sft" not in [run.name for run in list_runs(seeded_store)]
    assert not folder.exists()


def test_deletion_in_a_copied_database_spares_the_folder_of_the_original(seeded_store: Store, tmp_path: Path) -> None:
    run = seeded.find(seeded_store, "shapes-sft")
    folder = tmp_path / "original" / "runs" / run.uid
    folder.mkdir(parents=True)
    describe_run(seeded_store, run.id, output_dir=str(folder))
    intents.delete(run)
    assert folder.exists()


def test_deletion_spares_a_folder_that_is_not_the_launchers(seeded_store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    run = seeded.find(seeded_store, "shapes-sft")
    describe_run(seeded_store, run.id, output_dir=str(folder))
    intents.delete(run)
    assert folder.exists()


def test_an_active_run_cannot_be_deleted(seeded_store: Store) -> None:
    with pytest.raises(StoreError, match="Stop the job first"):
        intents.delete(seeded.find(seeded_store, "shapes-grpo-no-steps"))


def test_names_are_shown_as_they_stand(seeded_store: Store, open_page: Open) -> None:
    job = list_jobs(seeded_store, open_only=True)[0]
    describe_run(seeded_store, job.run_id, name="![x](http://example.org/x.png) **bold**")
    shown = texts(open_page("runs"))
    assert "![x](http" not in shown
    assert "**bold**" not in shown


def test_selected_runs_are_tagged_and_found_by_the_tag(seeded_store: Store, open_page: Open) -> None:
    app = select(open_page("runs"), "shapes-sft", "shapes-collapse")

    def save(tags: list[str]) -> dict[str, tuple[str, ...]]:
        field = next(each for each in app.multiselect if str(each.key).startswith("tags_tags"))
        field.set_value(tags)
        next(each for each in app.button if each.label == "Save").click().run()
        assert not app.exception
        return {run.name: run.tags for run in list_runs(seeded_store) if run.name in ("shapes-sft", "shapes-collapse")}

    before = {run.name: run.tags for run in list_runs(seeded_store) if run.name in ("shapes-sft", "shapes-collapse")}
    assert all("worth a look" in tags for tags in save(["worth a look"]).values())
    app.text_input(key="runs_search").set_value("worth a look").run()
    assert set(app.dataframe[0].value["name"]) == {"shapes-sft", "shapes-collapse"}
    assert save([]) == before
