"""One trace at its own address, the answers of a group side by side, and an evaluation page by page."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from app.traces import trace_copy
from app.traces.group_compare import MOST_COMPARED, fold_identical, side_by_side
from app.traces.inspector import reward_table
from store.completions.meetings import list_meetings, list_predicted_meetings
from store.completions.rows import list_completions, list_groups
from store.db.engine import Store
from store.db.rows import StoredCompletion
from store.evaluations.predictions import count_predicted, list_predicted, list_predictions, rank_of_example
from store.evaluations.records import list_evaluations
from store.notes import Remarks, get_remarks, tag_traces
from tests import seeded
from tests.pages.test_trace_view import HOSTILE, a_row
from trainer.spec.rewards import Explained

Open = Callable[..., AppTest]


def a_completion(store: Store, step: int = 60, group: int = 1) -> tuple[StoredCompletion, list[StoredCompletion]]:
    """The best of a group with rewards that differ, and its group by reward."""
    run = seeded.find(store, "shapes-grpo")
    ranked = sorted(list_groups(store, run.id, step)[group].completions, key=lambda row: (-(row.reward or 0), row.id))
    return ranked[0], ranked


def texts(at: AppTest) -> str:
    return "\n".join(str(element.value) for kind in ("html", "caption", "markdown") for element in at.get(kind))


def button(at: AppTest, key: str):  # type: ignore[no-untyped-def]  # a widget of AppTest
    return next(each for each in at.button if each.key == f"inspect.{key}")


def test_a_completion_has_an_address_of_its_own(seeded_store: Store, open_page: Open) -> None:
    row, ranked = a_completion(seeded_store)
    at = open_page("traces", completion=str(row.id))
    shown = texts(at)
    assert f"**Completion {row.id}**" in shown
    assert f"step 60 · rank 1 of {len(ranked)} by reward · sample {row.index + 1}" in shown
    assert '<th scope="row">accuracy</th>' in shown and "which is correct" in shown
    assert re.search(r'<th scope="row">steps</th>.*× 0\.1', shown)


def test_an_address_of_a_completion_decides_over_another_run(seeded_store: Store, open_page: Open) -> None:
    row, _ = a_completion(seeded_store)
    at = open_page(
        "traces", run=seeded.find(seeded_store, "shapes-sft").uid, view="Predictions", completion=str(row.id)
    )
    assert f"**Completion {row.id}**" in texts(at)
    assert at.selectbox(key="run_in_view").value == seeded.find(seeded_store, "shapes-grpo").uid


def test_j_and_k_walk_through_the_group_by_reward(seeded_store: Store, open_page: Open) -> None:
    row, ranked = a_completion(seeded_store)
    at = open_page("traces", completion=str(row.id))
    assert button(at, "k").disabled
    button(at, "j").click().run()
    assert not at.exception
    assert f"**Completion {ranked[1].id}**" in texts(at)
    button(at, "k").click().run()
    assert f"**Completion {row.id}**" in texts(at)
    button(at, "g").click().run()
    assert "completion" not in at.query_params
    assert at.slider[0].value == 60
    assert f"**Completion {row.id}**" not in texts(at)


def test_the_same_example_is_found_at_other_steps_and_in_other_runs(seeded_store: Store, open_page: Open) -> None:
    row, _ = a_completion(seeded_store)
    assert row.example_id is not None
    met = list_meetings(seeded_store, row.example_id)
    own = [each for each in met if each.run_id == row.run_id]
    assert len(own) > 3 and {each.run_id for each in met} > {row.run_id}
    for each in own:
        found = list_completions(seeded_store, row.run_id, example_id=row.example_id, steps=(each.step, each.step))
        assert (each.answers, each.right) == (len(found), sum(one.correct is True for one in found))
        assert each.best_id in {one.id for one in found}
    shown = texts(open_page("traces", completion=str(row.id)))
    assert all(f"traces?completion={each.best_id}" in shown for each in met)
    assert shown.count('class="tv-meeting tv-shown"') == 1


def test_a_prediction_has_an_address_of_its_own(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-sft")
    evaluation = list_evaluations(seeded_store, run.id)[0]
    wanted = list_predictions(seeded_store, evaluation.id, limit=30)[20]
    at = open_page("traces", prediction=str(wanted.id))
    assert f"**Prediction {wanted.id}**" in texts(at)
    assert sum(element.value.startswith('<details class="tv tv-chosen') for element in at.html) == 1
    assert list_predicted_meetings(seeded_store, wanted.example_id)
    button(at, "g").click().run()
    assert not at.exception
    assert at.selectbox(key="traces.evaluation").value == evaluation.id
    assert f"**Prediction {wanted.id}**" not in texts(at)


def test_an_evaluation_is_paged_in_the_database(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-sft")
    evaluation = list_evaluations(seeded_store, run.id)[-1]
    rows = list_predictions(seeded_store, evaluation.id, limit=1000)
    for kind, is_one in (("correct", lambda row: row.correct is True), ("wellformed", lambda row: row.wellformed)):
        wanted = sorted({row.example_id for row in rows if is_one(row)})
        assert count_predicted(seeded_store, evaluation.id, **{kind: True}) == len(wanted)
        assert list_predicted(seeded_store, evaluation.id, **{kind: True}, limit=3, offset=2) == wanted[2:5]
        assert rank_of_example(seeded_store, evaluation.id, wanted[2], **{kind: True}) == 2
    at = open_page("traces", run=run.uid, view="Predictions", evaluation=str(evaluation.id), only="Wrong")
    shown = [element.value for element in at.html if element.value.startswith("<details")]
    assert len(shown) == min(8, sum(row.correct is False for row in rows))
    assert all("tv-wrong" in row for row in shown)


def test_tags_and_notes_are_kept(seeded_store: Store, open_page: Open) -> None:
    row, _ = a_completion(seeded_store)
    tag_traces(seeded_store, "completion", [row.id + 1], "padding")
    at = open_page("traces", completion=str(row.id))
    at.text_area[0].set_value("It counts <b>twice</b>.").run()
    at.multiselect[0].set_value(["padding"]).run()
    assert not at.exception
    kept = get_remarks(seeded_store, "completion", [row.id])[row.id]
    assert kept == Remarks(("padding",), "It counts <b>twice</b>.")
    at.multiselect[0].set_value([]).run()
    assert get_remarks(seeded_store, "completion", [row.id])[row.id].tags == ()


def test_side_by_side_folds_and_compares(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    at = open_page("traces", run=run.uid, step="160", columns="true")
    columns = [element.value for element in at.html if element.value.startswith('<div class="tv-columns')]
    assert len(columns) == seeded.GROUPS
    for html, group in zip(columns, list_groups(seeded_store, run.id, 160), strict=True):
        assert html.count('class="tv-column"') == len({row.text for row in group.completions}) < 9


def test_identical_answers_are_folded_in_order() -> None:
    rows = [a_row(id=i, text=text) for i, text in enumerate(["b", "a", "b", "c", "a", "b"])]
    assert [(each.row.id, each.ids) for each in fold_identical(rows)] == [(0, (0, 2, 5)), (1, (1, 4)), (3, (3,))]
    html = side_by_side(rows, chosen=5, strongest=1.0)
    assert "×3" in html and "×2" in html and html.count("tv-chosen") == 1
    assert side_by_side([], chosen=None, strongest=None) == ""


def test_what_differs_from_the_best_is_marked() -> None:
    rows = [a_row(id=1, text="1. red circle top"), a_row(id=2, text="1. red square top")]
    html = side_by_side(rows, chosen=None, strongest=None)
    assert "1. red <del>circle</del><ins>square</ins> top" in html
    assert html.count("<ins>") == 1


@pytest.mark.parametrize("text", [*HOSTILE, "x" * 100_000, "a " * 50_000, "<b>" * 30_000])
def test_hostile_texts_are_compared_in_time_and_inert(text: str) -> None:
    start = time.monotonic()
    html = side_by_side([a_row(id=1, text="<think>1. red</think>"), a_row(id=2, text=text)], chosen=None, strongest=1.0)
    assert time.monotonic() - start < 2
    assert set(re.findall(r"<([a-z]+)", html)) <= {"div", "span", "b", "i", "a", "ins", "del"}
    assert not re.search("[\x00-\x08\u202e\u2066]", html)
    assert len(html) < 40 * MOST_COMPARED


@pytest.mark.parametrize("text", [*HOSTILE, "```\n# not a heading\n``````\n<b>"])
def test_a_copied_text_stays_within_its_fence(text: str) -> None:
    row = a_row(text=text, rewards={"format": 1.0})
    copied = trace_copy.markdown(row, None, "a [run](http://evil.example)", "http://here/traces?completion=1")
    fence = re.findall(r"^(`{3,})text$", copied, re.MULTILINE)[-1]
    assert copied.rstrip("\n").endswith(f"{fence}text\n{text}\n{fence}".rstrip("\n"))
    assert fence not in text
    assert "[run](" not in copied
    assert json.loads(trace_copy.as_json(row, None, "uid"))["text"] == text


def test_a_reward_that_was_recorded_otherwise_is_named() -> None:
    found = [Explained("<i>format</i>", 1.0, 2.0, "<script>"), Explained("cosine", None, 1.0, "no reference")]
    html = reward_table(found, {"<i>format</i>": 0.5}, 2.0)
    assert "recorded as 0.5" in html and "1 × 2" in html
    assert "<script>" not in html and "<i>" not in html
