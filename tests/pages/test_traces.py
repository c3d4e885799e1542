"""The Traces page: what a run said at a step or in an evaluation, reachable by address, whatever the texts hold."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.traces.group_view import Block, select
from app.traces.sparkline import sparkline_html
from store.completions.rows import get_completion, list_groups
from store.db.engine import Store, open_store
from store.db.rows import CompletionRow, ExampleRow, RunRow, StoredCompletion
from store.evaluations.predictions import list_predictions
from store.evaluations.records import list_evaluations
from store.examples import add_examples
from store.runs import list_runs
from store.steps import record_step
from store.trace import parse
from tests import seeded
from tests.pages import opening
from tests.pages.test_trace_view import HOSTILE, a_row
from trainer.datasets import shapes
from trainer.datasets.images import encode_png
from trainer.spec.config import preset

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def seeded_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "seeded.db"
    seeded.seed_database(path)
    return path


@pytest.fixture
def database(seeded_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Runs in every state."""
    monkeypatch.setenv("VR1Z_DATABASE_URL", str(seeded_path))
    return open_store(str(seeded_path), readonly=True)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("VR1Z_DATABASE_URL", str(tmp_path / "runs.db"))
    return open_store(str(tmp_path / "runs.db"))


def page(**parameters: object) -> AppTest:
    return opening.address("traces", **parameters).run()


def named(store: Store, name: str) -> RunRow:
    return next(run for run in list_runs(store) if run.name == name)


def rows(at: AppTest) -> list[str]:
    return [element.value for element in at.html if element.value.startswith("<details")]


def ids(at: AppTest) -> list[int]:
    return [int(re.findall(r">#(\d+)</a>", row)[0]) for row in rows(at)]


def chips(at: AppTest) -> list[str]:
    return [re.findall(r'tv-chip ([\w-]*)"', row)[0] for row in rows(at)]


def test_the_last_step_of_the_newest_run_is_shown(database: Store) -> None:
    at = page()
    assert not at.exception
    assert at.slider[0].value == 87
    assert len(rows(at)) == seeded.GROUPS * 8
    assert any("tv-spark" in element.value for element in at.html)
    assert any("api/media/" in element.value for element in at.html)
    assert any(re.match(r"group of 8 · reward .* ± .* · \d right", caption.value) for caption in at.caption)


def test_an_address_opens_a_step_of_a_run(database: Store) -> None:
    run = named(database, "shapes-grpo")
    at = page(run=run.uid, step=12)
    assert not at.exception
    assert at.slider[0].value == 12
    assert {get_completion(database, id).step for id in ids(at)} == {12}
    assert {get_completion(database, id).run_id for id in ids(at)} == {run.id}


def test_an_address_opens_one_completion_in_its_group(database: Store) -> None:
    run = named(database, "shapes-grpo")
    wanted = list_groups(database, run.id, 20)[1].completions[3]
    at = page(run=run.uid, completion=wanted.id)
    assert not at.exception
    assert at.slider[0].value == 20
    assert len(rows(at)) == 8
    [chosen] = [row for row in rows(at) if "tv-chosen" in row]
    assert f"completion={wanted.id}" in chosen
    assert "<details" in chosen and " open>" in chosen
    next(button for button in at.button if "Show all 2 groups" in button.label).click().run()
    assert len(rows(at)) == 16


def test_an_address_opens_one_group(database: Store) -> None:
    at = page(run=named(database, "shapes-grpo").uid, step=20, group=1)
    assert len(rows(at)) == 8


@pytest.mark.parametrize(
    "parameters",
    [
        {"run": "![x](http://example.org)"},
        {"step": "-1"},
        {"step": "99999"},
        {"step": "²"},
        {"completion": "0"},
        {"completion": "9" * 30},
        {"group": "77"},
        {"only": "Nonsense", "order": "Nonsense"},
        {"view": "Predictions", "evaluation": "99999"},
    ],
)
def test_an_address_that_leads_nowhere_still_shows_a_page(database: Store, parameters: dict[str, str]) -> None:
    at = page(**parameters)
    assert not at.exception
    assert rows(at)


def test_stepping_moves_the_slider_and_the_address(database: Store) -> None:
    at = page(run=named(database, "shapes-grpo").uid, step=12)
    at.button(key="traces.Right").click().run()
    assert (at.slider[0].value, at.query_params["step"]) == (13, "13")
    at.slider[0].set_value(40).run()
    assert not at.exception
    assert (at.slider[0].value, at.query_params["step"]) == (40, "40")
    assert {get_completion(database, id).step for id in ids(at)} == {40}


def test_choosing_another_run_starts_at_its_last_step(database: Store) -> None:
    at = page(run=named(database, "shapes-grpo").uid, step=12)
    other = named(database, "shapes-grpo-no-steps")
    at.selectbox(key="run_in_view").set_value(other.uid).run()
    assert not at.exception
    assert at.query_params["run"] == other.uid
    assert at.slider[0].value == 87


def test_filters_leave_what_they_say(database: Store) -> None:
    run = named(database, "shapes-grpo").uid
    assert set(chips(page(run=run, step=60, only="Right"))) == {"tv-right"}
    assert set(chips(page(run=run, step=60, only="Wrong"))) == {"tv-wrong"}
    malformed = rows(page(run=run, step=2, only="Malformed"))
    assert malformed and all("malformed</span>" in row for row in malformed)


def group(*rewards: float, correct: bool = True) -> list[StoredCompletion]:
    return [a_row(reward=reward, id=i, index=i, correct=correct, tokens=9 - i) for i, reward in enumerate(rewards)]


def test_groups_are_filtered_and_sorted() -> None:
    dead, alive = group(1.0, 1.0, 1.0), group(0.5, 2.0, 1.0, correct=False)
    blocks = [Block(0, None, dead, dead), Block(1, None, alive, alive)]
    assert [block.number for block in select(blocks, "Dead groups", "Reward")] == [0]
    assert [block.number for block in select(blocks, "Right", "Reward")] == [0]
    assert [row.id for row in select(blocks, "Wrong", "Reward")[0].shown] == [1, 2, 0]
    assert [row.id for row in select(blocks, "All", "As sampled")[1].shown] == [0, 1, 2]
    assert [row.id for row in select(blocks, "All", "Length")[1].shown] == [0, 1, 2]


def test_predictions_of_an_evaluation(database: Store) -> None:
    run = named(database, "shapes-sft")
    at = page(run=run.uid, view="Predictions")
    assert not at.exception
    assert len(rows(at)) == 8
    assert all("similarity" in row and "greedy" in row for row in rows(at))
    evaluation = list_evaluations(database, run.id)[0]
    wanted = list_predictions(database, evaluation.id, limit=30)[20]
    at = page(run=run.uid, view="Predictions", evaluation=evaluation.id, prediction=wanted.id)
    assert not at.exception
    assert sum("tv-chosen" in row for row in rows(at)) == 1


def test_a_run_without_completions_says_why(database: Store) -> None:
    at = page(run=named(database, "shapes-sft").uid)
    assert not at.exception
    assert "under Predictions" in at.info[0].value
    at = page(run=named(database, "shapes-collapse").uid)
    assert "is queued" in at.info[0].value
    at = page(run=named(database, "shapes-collapse").uid, view="Predictions")
    assert not at.exception
    assert "still running" in at.info[0].value


def test_an_empty_database_offers_the_demo(empty: Store) -> None:
    at = page()
    assert not at.exception
    assert "No runs yet" in at.info[0].value
    assert at.get("page_link")


def test_hostile_texts_are_inert_on_the_page(empty: Store) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in (*HOSTILE, "x" * 100_000)]
    drawn = shapes.examples("simple", "train", 1, 0)[0]
    example = ExampleRow(
        dataset="<b>data</b>",
        split="train",
        key="![k](http://evil.example/k.png)",
        question="How many? <img src=x onerror=alert(1)> ![q](http://evil.example/q.png)",
        answer=2,
        reference="<script>alert(2)</script> ![r](http://evil.example/r.png)",
        images=(encode_png(drawn.images[0]),),
    )
    run = seeded.new_run(empty, preset("shapes-grpo"))
    [example_id] = add_examples(empty, [example])
    completions = [
        CompletionRow(
            text=text,
            wellformed=parse(text).wellformed,
            correct=False,
            tokens=9,
            reward=float(i),
            rewards={"<i>format</i>": 0.0},
            generation=0,
            group=0,
            index=i,
            example_id=example_id,
            advantage=0.0,
        )
        for i, text in enumerate(texts)
    ]
    record_step(empty, run.id, 1, {"reward": 1.0}, at=time.time(), completions=completions)
    at = page(run=run.uid)
    assert not at.exception
    assert len(rows(at)) == len(texts)
    allowed = {"details", "summary", "div", "span", "b", "i", "a", "img", "style"}
    for element in at.html:
        assert set(re.findall(r"<([a-z]+)", element.value)) <= allowed
        assert not re.search(r"<img(?! class=\"tv-image\")", element.value)
    for kind in ("markdown", "caption", "info", "warning", "badge", "selectbox"):
        assert "evil.example" not in "".join(str(getattr(element, "value", "")) for element in at.get(kind))
    assert any("100,000 characters" in button.label for button in at.button)
    assert "No right answers in step 1" in page(run=run.uid, only="Right").info[0].value
    assert "No dead groups in step 1" in page(run=run.uid, only="Dead groups").info[0].value


def test_the_sparkline_spans_the_steps_and_leaves_gaps_out() -> None:
    steps, values = np.array([1.0, 2.0, 3.0]), np.array([0.0, np.nan, 2.0])
    html = sparkline_html(steps, values, low=1, high=3, now=2, alt="Reward")
    assert "0.00% 100.00%" in html and "100.00% 4.00%" in html
    assert "left:50.00%" in html
    assert "nan" not in html
    assert sparkline_html(steps[:1], values[:1], low=1, high=1, now=1, alt="") == ""
    assert "nan" not in sparkline_html(steps, np.zeros(3), low=1, high=3, now=1, alt="")
