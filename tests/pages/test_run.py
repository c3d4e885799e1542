"""The page of one run: is it learning?"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import get_args
from unittest import mock

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.run import advice, charts, curves, headlines
from app.run.axis import axis, step_at
from app.shared import data, format, status
from store.db.engine import Store
from store.db.rows import Clock, CompletionRow, EventRow, Series
from store.db.states import CLOSED, JobState
from store.evaluations.records import begin_evaluation, finish_evaluation, list_evaluations
from store.jobs import add_job, beat_job, end_job, get_job, list_jobs
from store.metrics import read_clock, read_series
from store.recording.intake import take
from store.runs import describe_run, get_run, list_runs, resolve_run
from store.steps import record_step
from tests import seeded
from tests.store import make, test_recording
from trainer import launch
from trainer.spec import errors

Open = Callable[..., AppTest]


def texts(app: AppTest) -> str:
    elements = (*app.title, *app.markdown, *app.caption, *app.text, *app.code, *app.error)
    return "\n".join(element.value for element in elements)


def test_without_runs_it_points_to_the_first_step(empty_store: Store, open_page: Open) -> None:
    app = open_page("run")
    assert "No runs yet" in app.info[0].value
    assert app.page_link[0].value == "Launch a run"


def test_the_address_chooses_the_run(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-sft")
    app = open_page("run", run=run.uid)
    assert app.selectbox(key="run_in_view").value == run.uid
    assert "shapes\\-sft" in app.title[0].value


def test_an_unknown_run_in_the_address_is_said(seeded_store: Store, open_page: Open) -> None:
    app = open_page("run", run="*none*")
    assert app.warning[0].value == "There is no run \\*none\\*; showing this one instead."


def test_a_script_that_fell_silent_is_shown_as_such_with_what_to_do(empty_store: Store, open_page: Open) -> None:
    begin, example, *_, step = test_recording.RECORDS[:4]
    begin = {**begin, "folder": "/their/vr1z-`x`"}
    lines = test_recording.lines([begin, {**example, "images": []}, step])
    take(empty_store, test_recording.UID, 0, lines, is_alive=False)
    shown = texts(open_page("run"))
    assert "silent since 1970-01-01 00:00 UTC" in shown and "`python -m store sync FOLDER`" in shown
    assert "/their/vr1z" in shown and "elsewhere" in shown
    take(empty_store, test_recording.UID, 3, [])
    data.forget()
    assert "silent" not in texts(open_page("run"))


def test_without_an_address_the_run_at_work_is_shown_not_one_that_waits(seeded_store: Store, open_page: Open) -> None:
    add_job(seeded_store, make.run(seeded_store, name="waits").id, "train", {})
    assert list_runs(seeded_store)[0].status == "queued"
    app = open_page("run")
    chosen = app.selectbox(key="run_in_view").value
    run = get_run(seeded_store, resolve_run(seeded_store, chosen))
    assert run.status == "running" and run.job is not None
    end_job(seeded_store, run.job.id, JobState.FINISHED)
    assert app.run().selectbox(key="run_in_view").value == chosen


def test_choosing_another_run_changes_the_address(seeded_store: Store, open_page: Open) -> None:
    first, other = (seeded.find(seeded_store, name).uid for name in ("shapes-sft", "shapes-grpo"))
    app = open_page("run", run=first, step="3")
    app.selectbox(key="run_in_view").set_value(other).run()
    assert app.query_params["run"] == other
    assert "step" not in app.query_params


def test_a_live_run_says_how_it_is(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo-no-steps")
    with seeded.at(seeded.NOW):
        app = open_page("run", run=run.uid)
    assert re.search(r"running · last step \d+ s ago \(typical 1\.5 s\) · generating", texts(app))
    assert "step 87 of 170 · 2 min 6 s left" in [bar.text for bar in app.progress]


def test_what_a_job_counts_has_a_bar_of_its_own(seeded_store: Store, open_page: Open) -> None:
    run = get_run(seeded_store, seeded.find(seeded_store, "shapes-grpo-no-steps").id)
    assert run.job is not None
    beat_job(seeded_store, run.job.id, "validating the *base*", 150, 200)
    try:
        bars = {bar.text: bar.value for bar in open_page("run", run=run.uid).progress}
        assert bars[r"Validating the \*base\*: 150 of 200"] == 75
    finally:
        beat_job(seeded_store, run.job.id, "generating")


def test_every_chart_of_a_run_is_drawn(seeded_store: Store, open_page: Open) -> None:
    shown = texts(open_page("run", run=seeded.find(seeded_store, "shapes-grpo").uid))
    for chart in (*charts.outcome("grpo", ["format"]), *charts.optimization("grpo")):
        assert f"**{format.literal(chart.title)}**" in shown
    assert "No data yet" not in shown


def test_where_kl_is_not_computed_the_page_says_so(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-collapse")
    record_step(seeded_store, run.id, 1, {"reward": 0.5, "kl": None}, at=seeded.NOW)
    assert "Not computed: beta is 0" in texts(open_page("run", run=run.uid))


def test_a_failed_run_says_what_happened_and_what_to_do(seeded_store: Store, open_page: Open) -> None:
    seeded.with_checkpoint(seeded_store, "smolvlm-256m-*r64*")
    app = open_page("run", run=seeded.find(seeded_store, "smolvlm-256m-*r64*").uid)
    assert app.error[0].value.startswith("**Out of memory** · exit code 1")
    assert "ran out of memory" in app.error[0].value
    assert "torch.OutOfMemoryError" in texts(app)
    assert format.literal("optimization.accumulation: double it") in texts(app)
    assert app.button(key="run_resume")


@pytest.mark.parametrize("state", [state for state in CLOSED if state not in ("finished", "stopped", "failed")])
def test_every_bad_end_has_its_advice(seeded_store: Store, open_page: Open, state: JobState) -> None:
    run = seeded.find(seeded_store, "shapes-collapse")
    end_job(seeded_store, int(run.job_id or 0), state, error="**Something** happened.")
    app = open_page("run", run=run.uid)
    assert advice.ADVICE[state].label in app.error[0].value and r"\*\*Something" in app.error[0].value
    assert advice.ADVICE[state].cause in texts(app)


def test_every_kind_of_fault_has_its_advice() -> None:
    assert {*get_args(errors.Kind)} <= set(advice.ADVICE)


def test_of_a_traceback_the_lines_that_tell_are_shown() -> None:
    told = advice.relevant_lines(
        "noise\nTraceback (most recent call last):\n"
        '  File "/home/me/trainer/train/training.py", line 88, in train\n    trainer.train()\n'
        '  File "/home/me/.venv/lib/python3.11/site-packages/trl/x.py", line 1, in train\n    inner()\n'
        '  File "/home/me/reward.py", line 3, in mine\n    1 / 0\nZeroDivisionError: division by zero\n'
    )
    assert told.splitlines() == [
        '  File "/home/me/trainer/train/training.py", line 88, in train',
        "    trainer.train()",
        '  File "/home/me/reward.py", line 3, in mine',
        "    1 / 0",
        "ZeroDivisionError: division by zero",
    ]
    assert advice.relevant_lines("\n".join(map(str, range(100)))).splitlines()[0] == "88"


def test_a_page_opened_anew_shows_the_same_progress(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo-no-steps")
    with seeded.at(seeded.NOW):
        first, second = (open_page("run", run=run.uid) for _ in range(2))
    assert [bar.text for bar in first.progress] == [bar.text for bar in second.progress]
    assert "step 87 of 170 · 2 min 6 s left" in [bar.text for bar in second.progress]
    assert texts(first) == texts(second)


def test_a_run_branches_from_a_checkpoint(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    app = open_page("run", run=run.uid)
    assert {button.label for button in app.button if str(button.key).startswith("run_branch_")} == {
        "Best: step 150, accuracy 98 %",
        "Final: step 170, accuracy 61 %",
    }
    app = open_page("launch", clone=run.uid, **{"from": "170"})
    filled = app.session_state["launch.filled"]
    assert (filled["model.adapter"], filled["name"]) == (f"{run.uid}:170", "shapes-grpo-from-170")
    assert app.session_state["launch.parent"] == run.id


def test_the_parent_of_a_branch_is_drawn_dim_from_where_it_began(seeded_store: Store, open_page: Open) -> None:
    parent = seeded.find(seeded_store, "shapes-grpo")
    settings = seeded.config("shapes-grpo", "name=branch", f"model.adapter={parent.uid}:50")
    made = seeded.new_run(seeded_store, settings)
    describe_run(seeded_store, made.id, parent_id=parent.id)
    for step in (1, 2):
        record_step(seeded_store, made.id, step, {"reward": 1.0}, at=seeded.NOW + step)
    branch = get_run(seeded_store, made.id)
    reward = next(chart for chart in charts.outcome("grpo", ["format"]) if "reward" in chart.metrics)
    for kind, at_zero in (("step", 50), ("time", 50)):
        clock = read_clock(seeded_store, branch.id)
        along = axis(kind, clock)
        view = curves.CurvesView(along, 0.5, False, (), None, curves.parent_of(branch, kind))
        series, before = (read_series(seeded_store, each.id, ["reward"]) for each in (branch, parent))
        present = [curve for curve in reward.curves if curve.metric == "reward"]
        dim, *_ = curves.figure(branch, reward, present, series, view, before).data
        assert dim.opacity < 0.5 and dim.name.endswith(", shapes-grpo")
        steps = before["reward"].step.tolist()
        assert dim.x[steps.index(at_zero)] == 0 and dim.x[0] < 0 < dim.x[-1]
    open_page("run", run=made.uid)


def test_a_cursor_leads_to_the_groups_of_its_step(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    app = open_page("run", run=run.uid, step="40")
    assert "Cursor at **step 40**" in texts(app)
    app.button(key="clear_cursor").click().run()
    assert "step" not in app.query_params


@pytest.mark.parametrize("step", ["x", "-1", "9" * 30, ""])
def test_nonsense_in_the_address_is_no_cursor(seeded_store: Store, open_page: Open, step: str) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    assert "Cursor at" not in texts(open_page("run", run=run.uid, step=step))


def test_config_log_and_events_have_their_tabs(seeded_store: Store, open_page: Open) -> None:
    uid = seeded.find(seeded_store, "shapes-grpo").uid
    assert "learning_rate: 0.0003" in texts(open_page("run", run=uid, tab="Config"))
    log = open_page("run", run=uid, tab="Log").code[0].value
    assert "\x1b" not in log
    assert "100%" in log
    assert "12%" not in log
    assert "<script>alert(1)</script>" in log
    events = open_page("run", run=uid, tab="Events").dataframe[0].value
    assert events["kind"].iloc[0] == "finished"


def test_completions_of_the_policy_are_never_markdown(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    hostile = "<think>**x** ![p](http://example.org/p.png)</think>"
    row = CompletionRow(text=hostile, generation=171, group=0, index=0, wellformed=False)
    record_step(seeded_store, run.id, 171, {"reward": 1.0}, at=seeded.NOW, completions=[row])
    app = open_page("run", run=run.uid)
    assert hostile in [element.value for element in app.code]
    assert not any("example.org" in element.value for element in (*app.markdown, *app.caption))


def clock() -> Clock:
    return Clock(np.array([1, 2, 3]), np.array([100.0, 160.0, 460.0]), np.array([np.nan, 10.0, 30.0]))


def test_the_axis_maps_steps_and_back() -> None:
    time = axis("time", clock())
    assert time.title == "time (minutes)"
    assert time.place([0, 1, 2, 3]).tolist() == [0.0, 0.0, 1.0, 6.0]
    assert time.step(5.0) == 3
    tokens = axis("tokens", clock())
    assert tokens.place([2, 3]).tolist() == [10.0, 30.0]
    assert axis("step", clock()).place([7]).tolist() == [7.0]
    assert axis("step", clock()).step(6.6) == 7


def test_an_axis_without_a_clock_falls_back_to_steps() -> None:
    nothing = Clock(np.empty(0, int), np.empty(0), np.empty(0))
    assert axis("time", nothing).title == axis("tokens", nothing).title == "step"
    assert step_at(nothing, 5.0) == 0


def event(id: int, kind: str, step: int | None, at: float = 170.0) -> EventRow:
    return EventRow(id, 1, None, at, step, kind, "message")


def test_marks_are_the_last_best_and_what_went_wrong() -> None:
    events = [event(1, "best", 1), event(2, "best", 3), event(3, "lost", None), event(4, "launched", None)]
    marks = curves.marks(events, clock(), axis("step", clock()))
    assert [(mark.x, mark.text) for mark in marks] == [(3.0, "step 3: best checkpoint"), (2.0, "step 2: lost")]


def test_headlines_compare_the_end_with_the_start() -> None:
    steps = np.arange(20)
    series = {"reward": Series(steps, np.where(steps < 10, 1.0, 3.0), 20)}
    found = headlines.of_samples(headlines.REWARD, series, [])
    assert found == (3.0, 1.0, "sampled in training · steps 15 to 19")
    assert headlines.of_samples(headlines.REASONING[0], series, []) == headlines.NOTHING
    assert headlines.change_since_start(headlines.Headline(1.001, 1.0, ""), False) == 0
    assert headlines.change_since_start(headlines.Headline(0.6, 0.1, ""), True) == "+50 points"


def test_accuracy_is_that_of_the_newest_evaluation_and_says_which(empty_store: Store) -> None:
    run = make.run(empty_store)
    for kind, step, n, score in (("val", 0, 200, 0.0), ("probe", 0, 24, 0.1), ("probe", 20, 24, 0.9)):
        evaluated(empty_store, run.id, kind, step, n, score)

    def told() -> tuple[headlines.Headline, str | None]:
        found = list_evaluations(empty_store, run.id)
        return headlines.of_evaluations(found), status.accuracy_source(list_runs(empty_store)[0])

    assert told() == ((0.9, 0.0, "greedy · probe of 24 · step 20"), "probe of 24 · step 20")
    evaluated(empty_store, run.id, "val", 20, 200, 0.8)
    evaluated(empty_store, run.id, "probe", 20, 24, 0.7)
    assert told() == ((0.8, 0.0, "greedy · validation of 200 · step 20"), "validation of 200 · step 20")
    evaluated(empty_store, run.id, "probe", 40, 24, 0.95)
    evaluated(empty_store, run.id, "test", 20, 400, 0.85)
    assert told() == ((0.85, 0.0, "greedy · test of 400 · step 20"), "test of 400 · step 20")


def evaluated(store: Store, run_id: int, kind: str, step: int, n: int, score: float) -> None:
    """A finished evaluation of `n` examples; a probe samples four answers to each, too."""
    samples = {"samples": {"n": 4}} if kind == "probe" else {}
    place = {"benchmark": "shapes-simple", "split": "val", "kind": kind, "step": step}
    total = n * 5 if samples else n
    made = begin_evaluation(store, run_id, **place, conditions=samples, encoder=None, total=total)
    finish_evaluation(store, made, {"n": n, "exact_match": score})


def test_a_checkpoint_is_evaluated_from_the_page(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    app = open_page("run", run=run.uid, tab="Evaluations")
    app.selectbox(key="evaluate.benchmark").set_value("shapes-complex")
    app.selectbox(key="evaluate.checkpoint").set_value("final")
    app.number_input(key="evaluate.samples").set_value(4)
    app.selectbox(key="evaluate.baseline").set_value("blind")
    with mock.patch.object(launch, "ensure_worker"):
        app.button(key="evaluate.go").click().run()
    assert not app.exception
    asked = list_jobs(seeded_store, run_id=run.id)[-1]
    wanted = {"benchmark": "shapes-complex", "checkpoint": "final", "limit": 400, "samples": 4, "baseline": "blind"}
    assert (asked.kind, asked.state, asked.arguments) == ("evaluate", "queued", wanted)
    assert "shapes-complex · queued" in texts(app)
    assert seeded.find(seeded_store, "shapes-grpo").status == "finished"
    app.button(key=f"stop-{asked.uid}").click().run()
    assert get_job(seeded_store, asked.uid).state == "stopped"


def test_a_benchmark_without_its_folder_is_refused(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    app = open_page("run", run=run.uid, tab="Evaluations")
    app.selectbox(key="evaluate.benchmark").set_value("tdiuc").run()
    app.button(key="evaluate.go").click().run()
    assert "Set data\\.path to the folder" in app.toast[0].value
    assert [job.kind for job in list_jobs(seeded_store, run_id=run.id)] == ["train"]


def test_a_run_without_a_checkpoint_here_says_where_to_evaluate_it(empty_store: Store, open_page: Open) -> None:
    run = make.run(empty_store, name="away")
    app = open_page("run", run=run.uid, tab="Evaluations")
    assert any("has no checkpoint on this machine" in each.value for each in app.caption)
