"""Which run a page shows, and what an address may say."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from app.shared import links, run_picker
from store.db.engine import Store
from store.db.states import JobState
from store.jobs import add_job, end_job
from store.runs import list_runs
from tests import seeded
from tests.store import make

Open = Callable[..., AppTest]


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), ("2147483647", 2**31 - 1), ("2147483648", None), ("9" * 5000, None)]
    + [(text, None) for text in ("", "-1", "1.0", " 1", "1e3", "²", "٣", "1_000", "+1")],
)
def test_whole_numbers_of_an_address(text: str, number: int | None) -> None:
    assert links.parse_whole(text) == number


@given(st.text())
def test_whatever_an_address_says_is_a_number_or_none(text: str) -> None:
    found = links.parse_whole(text)
    assert found is None or text.lstrip("0") == (str(found) if found else "")


def test_the_run_with_most_to_see_comes_first(empty_store: Store) -> None:
    for name in ("ended", "finished", "at work", "new at work", "waiting"):
        run = make.run(empty_store, name=name)
        if name == "waiting":
            add_job(empty_store, run.id, "train", {})
        else:
            job = make.running_job(empty_store, run.id, host=f"host of {name}")
        if name in ("ended", "finished"):
            end_job(empty_store, job, JobState.FINISHED if name == "finished" else JobState.FAILED, exit_code=0)
        if name not in ("waiting", "new at work"):
            make.steps(empty_store, run.id, 2)
    runs = list_runs(empty_store)
    order = []
    while runs:
        order.append(run_picker.most_interesting(runs))
        runs.remove(order[-1])
    assert [run.name for run in order] == ["at work", "finished", "ended", "new at work", "waiting"]


def test_the_run_that_was_looked_at_is_shown_on_the_next_page(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-sft")
    app = open_page("run", run=run.uid)
    for page in ("traces", "emergence", "rewards", "datasets", "system"):
        app.query_params.clear()
        app.switch_page(f"../pages/{page}.py").run()
        assert app.selectbox(key="run_in_view").value == run.uid


@pytest.mark.parametrize("page", ["runs", "run", "find", "drift", "compare", "launch"])
def test_every_link_of_the_menu_keeps_the_run_and_the_runs(seeded_store: Store, open_page: Open, page: str) -> None:
    one, other = (seeded.find(seeded_store, name).uid for name in ("shapes-sft", "shapes-grpo"))
    app = open_page(page, run=one, runs=f"{one},{other}")
    links = app.sidebar.get("page_link")[:11]
    assert {parse_qs(link.proto.query_string)["run"][0] for link in links} == {one}
    assert {parse_qs(link.proto.query_string)["runs"][0] for link in links} == {f"{one},{other}"}


def test_a_run_without_data_is_not_kept_by_links_unless_it_was_chosen(empty_store: Store, open_page: Open) -> None:
    run = make.run(empty_store, name="waiting")
    add_job(empty_store, run.id, "train", {})
    assert "run=" not in open_page("system").sidebar.get("page_link")[2].proto.query_string
    assert f"run={run.uid}" in open_page("system", run=run.uid).sidebar.get("page_link")[2].proto.query_string


def test_another_run_in_view_replaces_what_was_chosen_with_the_last_one(seeded_store: Store, open_page: Open) -> None:
    one, other = (seeded.find(seeded_store, name).uid for name in ("shapes-sft", "shapes-grpo"))
    app = open_page("compare", run=one, runs=one)
    app.selectbox(key="run_in_view").set_value(other).run()
    assert (app.query_params["run"], "runs" in app.query_params) == (other, False)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("traces", "There is no run nobody; showing this one instead."),
        ("emergence", "There is no run nobody; showing this one instead."),
        ("rewards", "There is no run nobody; showing this one instead."),
        ("find", "There is no run nobody; showing all runs."),
    ],
)
def test_a_page_says_that_the_run_in_its_address_is_gone(
    seeded_store: Store, open_page: Open, page: str, words: str
) -> None:
    assert [each.value for each in open_page(page, run="nobody").warning] == [words]


def test_a_run_without_samples_has_nothing_to_score(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-sft")
    at = open_page("rewards", run=run.uid, view="A whole run")
    assert "shapes\\-sft has no sampled completions to score: choose a GRPO run." in at.info[0].value
