"""Which run a page shows, and what an address may say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from app.shared import links, run_picker
from store.db.engine import Store
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
    assert links.whole(text) == number


@given(st.text())
def test_whatever_an_address_says_is_a_number_or_none(text: str) -> None:
    found = links.whole(text)
    assert found is None or text.lstrip("0") == (str(found) if found else "")


def test_the_run_shown_before_then_the_one_at_work_with_data_then_the_newest_with_data(empty_store: Store) -> None:
    for name in ("old", "working", "filled", "new"):
        run = make.run(empty_store, name=name)
        if name == "working":
            make.running_job(empty_store, run.id)
        if name != "new":
            make.steps(empty_store, run.id, 2)
    runs = list_runs(empty_store)
    by_name = {run.name: run for run in runs}
    assert runs[0].name == "new"

    def chosen(shown: str | None, without: tuple[str, ...] = ()) -> str:
        def has_data(run: run_picker.RunRow) -> bool:
            return run.step > 0 and run.name not in without

        uid = by_name[shown].uid if shown in by_name else shown
        return run_picker.default(runs, uid, has_data).name

    assert chosen("old") == "old"
    assert chosen(None) == chosen("gone") == "working"
    assert chosen(None, without=("working",)) == "filled"
    assert chosen(None, without=("working", "filled", "old")) == "new"


def test_the_run_that_was_looked_at_is_shown_on_the_next_page(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "demo-sft")
    app = open_page("run", run=run.uid)
    for page, key in (("traces", "traces.run"), ("emergence", "emergence.run")):
        app.query_params.clear()
        app.switch_page(f"../pages/{page}.py").run()
        assert app.selectbox(key=key).value == run.uid


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("traces", "There is no run nobody; this one is shown instead."),
        ("emergence", "There is no run nobody; this one is shown instead."),
        ("rewards", "There is no run nobody; this one is shown instead."),
        ("find", "There is no run nobody; all are shown instead."),
    ],
)
def test_a_page_says_that_the_run_in_its_address_is_gone(
    seeded_store: Store, open_page: Open, page: str, words: str
) -> None:
    assert [each.value for each in open_page(page, run="nobody").warning] == [words]


def test_a_run_without_samples_has_nothing_to_score(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "demo-sft")
    at = open_page("rewards", run=run.uid)
    assert at.warning[0].value == f"Run {run.uid} has nothing to show here; this one is shown instead."
