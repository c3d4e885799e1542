"""The page that shows when reasoning emerged, and the chart that it draws."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from sqlalchemy import delete
from streamlit.testing.v1 import AppTest

from app.emergence import rows as emergence_rows
from app.emergence import story
from app.emergence.figures import EmergenceCurve, Heat, Row, emergence_chart
from app.shared.figures import BLUE, Mark
from app.shared.live_chart import figure_json
from store.completions import emergence
from store.db.connection import writing
from store.db.engine import Store
from store.db.rows import CompletionRow
from store.db.schema import StepSummary
from store.db.states import JobState
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.examples import add_examples
from store.jobs import add_job, end_job
from store.runs import get_run
from store.steps import record_step
from tests import seeded
from tests.store import make

Open = Callable[..., AppTest]
X = np.arange(1.0, 4.0)


def shown(app: AppTest) -> str:
    elements = (*app.title, *app.header, *app.markdown, *app.caption, *app.info, *app.success, *app.html)
    return "\n".join(element.value for element in elements)


def test_the_page_of_a_run_that_learns(seeded_store: Store, open_page: Open) -> None:
    app = open_page("emergence", run=seeded.find(seeded_store, "shapes-grpo").uid)
    text = shown(app)
    for milestone in ("Format locked in", "Accuracy begins to rise", "Numbered steps in half of the samples"):
        assert f"**{milestone}** · step" in text
    assert "No warning sign" in text
    links = [link.proto.query_string for link in app.get("page_link")]
    assert any("step=" in link and "completion=" in link for link in links)


def test_a_run_read_in_part_says_so(seeded_store: Store, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emergence, "emergence", partial(emergence.emergence, limit=100))
    run = seeded.find(seeded_store, "shapes-grpo")
    text = shown(open_page("emergence", run=run.uid))
    assert f"No warning signs in {run.step // 2} steps, one in 2" in text
    assert f"This run is long: the chart shows {run.step // 2} steps, one in 2." in text


def test_what_a_policy_wrote_is_inert_on_the_page(seeded_store: Store, open_page: Open) -> None:
    text = shown(open_page("emergence", run=seeded.find(seeded_store, "shapes-grpo").uid))
    assert "<script>" not in text
    assert "<img src=x" not in text


def test_padding_is_found_and_shown_with_its_traces(seeded_store: Store, open_page: Open) -> None:
    (example_id,) = add_examples(seeded_store, [make.example("padded", answer=2)])
    run = make.run(seeded_store, "padder", reward_weights={"format": 1.0})
    for step in range(1, 101):
        rows = [padded(step, index, example_id) for index in range(16)]
        record_step(seeded_store, run.id, step, {"reward": 1.0}, at=seeded.NOW + step, completions=rows)
    app = open_page("emergence", run=run.uid)
    text = shown(app)
    assert "**More steps than objects** since step" in text
    assert "list more steps than the true count" in text.replace("\\", "")
    assert "wrong, true count 2" in text
    at_run = open_page("run", run=run.uid)
    assert "More steps than objects" in shown(at_run)


def padded(step: int, index: int, example_id: int) -> CompletionRow:
    """Two steps before step 50, four afterwards; one completion in four is right."""
    steps = 2 if step < 50 else 4
    said = " ".join(f"{number}. red {'abcd'[number - 1]}" for number in range(1, steps + 1))
    right = index % 4 == 0
    return make.completion(
        index,
        text=f"<think>{said}</think><answer>{2 if right else 3}</answer>",
        answer=2 if right else 3,
        reasoning_steps=steps,
        correct=right,
        example_id=example_id,
        group=0,
    )


def test_another_run_is_laid_over(seeded_store: Store, open_page: Open) -> None:
    first, other = (seeded.find(seeded_store, name) for name in ("shapes-grpo", "shapes-grpo-no-steps"))
    app = open_page("emergence", run=first.uid, **{"with": other.uid})
    assert app.selectbox(key="emergence.with").value == other.uid
    app.selectbox(key="emergence.with").set_value("none").run()
    assert "with" not in app.query_params
    assert not app.exception


def test_a_run_is_not_laid_over_itself(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    assert open_page("emergence", run=run.uid, **{"with": run.uid}).selectbox(key="emergence.with").value == "none"


def test_a_run_without_samples_has_a_time_machine_still(seeded_store: Store, open_page: Open) -> None:
    app = open_page("emergence", run=seeded.find(seeded_store, "shapes-sft").uid)
    assert "This run samples no completions in training" in shown(app)
    assert app.selectbox(key="machine.example").options
    assert "tv-question" in shown(app)


@pytest.mark.parametrize("page", ["emergence", "traces"])
def test_a_run_whose_completions_are_not_here_did_not_fail(page: str, empty_store: Store, open_page: Open) -> None:
    run = make.run(empty_store, "trained")
    make.steps(empty_store, run.id, 3)
    job = add_job(empty_store, run.id, "train", {})
    end_job(empty_store, job.id, JobState.FINISHED, exit_code=0)
    assert "completions of this run are not in this database" in shown(open_page(page, run=run.uid))


def test_a_run_that_imitates_is_told_from_its_probes(seeded_store: Store, open_page: Open) -> None:
    run = make.run(seeded_store, "imitator", method="sft")
    (example_id,) = add_examples(seeded_store, [make.example("probed")])
    for step in (0, 10):
        words = {"benchmark": "b", "split": "val", "kind": "probe", "step": step, "conditions": {}}
        evaluation = begin_evaluation(seeded_store, run.id, encoder=None, total=1, **words)
        record_predictions(seeded_store, evaluation, [make.prediction(example_id)])
        finish_evaluation(seeded_store, evaluation, {"accuracy": 1.0})
    app = open_page("emergence", run=run.uid)
    assert "the charts show its probes" in shown(app)
    assert app.select_slider[0].options == ["0", "10"]
    sampled = seeded.find(seeded_store, "shapes-grpo")
    assert "Milestones" in shown(open_page("emergence", run=sampled.uid, **{"with": run.uid}))


def test_the_time_machine_goes_through_the_evaluations(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    app = open_page("emergence", run=run.uid)
    (slider,) = app.select_slider
    assert slider.options == ["0", "50", "100", "150"]
    slider.set_value(50).run()
    assert "changes since step 0" in shown(app)
    assert not app.exception


def test_an_older_database_is_added_up_once(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    with writing(seeded_store) as connection:
        connection.execute(delete(StepSummary))
    assert "**Format locked in** · step" in shown(open_page("emergence", run=run.uid))
    assert emergence.unsummarized_steps(seeded_store, run.id) == []


def test_without_runs_it_points_to_the_first_step(empty_store: Store, open_page: Open) -> None:
    assert "this page shows the milestones of a run" in shown(open_page("emergence"))


def test_an_unknown_run_in_the_address_is_said(seeded_store: Store, open_page: Open) -> None:
    assert "There is no run" in open_page("emergence", run="*none*").warning[0].value


def test_the_score_of_a_run_has_its_rows_on_one_axis(seeded_store: Store) -> None:
    run = get_run(seeded_store, seeded.find(seeded_store, "shapes-grpo").id)
    told = story.load(run)
    assert told is not None
    texts = story.read_texts(told)
    rows = emergence_rows.rows(told, texts, told)
    assert [row.title.split(" ")[0] for row in rows] == [
        *("Format,", "Reasoning", "Length", "Answers", "Texts", "Groups", "What", "Steps"),
    ]
    figure = emergence_chart(rows, emergence_rows.flags(told), cursor=7.0, revision="r")
    assert {trace.xaxis for trace in figure.data} == {None}
    assert len({trace.yaxis for trace in figure.data}) == len(rows)
    assert len(json.loads(figure_json(figure))["data"]) == len(figure.data)
    movers = next(row for row in rows if row.title.startswith("What drives"))
    total = np.sum([curve.y for curve in movers.curves], axis=0)
    np.testing.assert_allclose(total[np.isfinite(total)], 1.0)


def test_steps_are_read_once_and_stay_chosen_while_a_run_grows() -> None:
    few, many = story.spread_steps(np.arange(1, 200)), story.spread_steps(np.arange(1, 260))
    assert len(few) <= story.MOST_READ
    assert set(many.tolist()) & set(few.tolist()) == set(few[::2].tolist())
    assert story.spread_steps(np.arange(5)).tolist() == [0, 1, 2, 3, 4]


def test_rows_do_not_overlap_and_names_are_not_html() -> None:
    curves = [EmergenceCurve("<b>x</b>", X, X, BLUE), EmergenceCurve("y, other run", X, X, BLUE, dotted=True)]
    heat = Heat(X, X, np.eye(3), "h")
    rows = [Row("<i>", curves, "share"), Row("b", curves, heat=heat, tall=2.0), Row("c", curves, "stacked share")]
    figure = emergence_chart(rows, [Mark(2.0, "a<b", "why")], cursor=None, revision="r")
    spans = [figure.layout[axis].domain for axis in ("yaxis", "yaxis2", "yaxis3")]
    assert all(low < high for low, high in spans)
    assert spans[0][0] > spans[1][1] > spans[1][0] > spans[2][1]
    texts = [note.text for note in figure.layout.annotations]
    assert not [text for text in texts if "<i>" in text or "<b>x" in text or "a<b" in text]
    assert not any("other run" in text for text in texts)


@pytest.mark.parametrize("step", ["abc", "-1", "99999999999"])
def test_a_cursor_that_is_no_step_is_no_cursor(step: str, seeded_store: Store, open_page: Open) -> None:
    app = open_page("emergence", run=seeded.find(seeded_store, "shapes-grpo").uid, step=step)
    assert "All rows share one axis" in shown(app)
