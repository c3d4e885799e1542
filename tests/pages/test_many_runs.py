"""Pages of a database with very many runs: bounded work, and words that say what was left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import streamlit as st
from sqlalchemy import Engine, event
from streamlit.testing.v1 import AppTest

from benchmarks import many
from store.db.engine import Store, open_store
from store.db.rows import RunRow
from store.evaluations.records import evaluations_by_run
from store.runs import list_run_heads, list_runs
from tests.pages.conftest import copied

Open = Callable[..., AppTest]
FEW, MANY = 30, 230
PAGES = (
    "runs",
    "run",
    "curves",
    "emergence",
    "traces",
    "find",
    "rewards",
    "compare",
    "drift",
    "datasets",
    "launch",
    "system",
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A folder with a database by its number of runs."""
    folders = {runs: tmp_path_factory.mktemp(f"of {runs}") for runs in (FEW, MANY)}
    for runs, folder in folders.items():
        store = open_store(str(folder / "runs.db"))
        many.fill(store, runs)
        store.close()
    return folders


@pytest.fixture
def many_runs(filled: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return copied(filled[MANY], tmp_path / "data", monkeypatch)


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is asked of any database meanwhile."""
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("page", PAGES)
def test_no_page_asks_the_database_once_a_run(
    page: str, filled: dict[int, Path], monkeypatch: pytest.MonkeyPatch, open_page: Open
) -> None:
    asked = {}
    for runs in (FEW, MANY):
        monkeypatch.setenv("VR1Z_DATABASE_URL", f"sqlite:///{filled[runs] / 'runs.db'}")
        st.cache_data.clear()
        with statements() as found:
            open_page(page, run="many000000")
        asked[runs] = len(found)
    assert asked[MANY] <= asked[FEW] + 6, asked


def words(app: AppTest) -> str:
    return "\n".join(each.value for each in (*app.caption, *app.markdown))


def test_compare_says_which_of_very_many_runs_it_compares(many_runs: Store, open_page: Open) -> None:
    app = open_page("compare")
    assert f"Comparing the newest 12 of {MANY} tested runs: select others on the Runs page." in words(app)
    app = open_page("compare", runs=",".join(run.uid for run in list_run_heads(many_runs)[-3:]))
    assert "3 runs selected." in words(app) and "Comparing" not in words(app)
    app = open_page("compare", runs=",".join(run.uid for run in list_run_heads(many_runs)))
    assert f"Comparing the newest 100 of {MANY} chosen runs" in words(app)


def test_drift_offers_the_newest_columns_and_those_in_the_address(many_runs: Store, open_page: Open) -> None:
    old = list_run_heads(many_runs)[-1]
    app = open_page("drift", run=old.uid)
    assert f"Columns list the newest 100 of {MANY} evaluated runs" in words(app)
    columns = app.multiselect(key="drift.sides")
    assert len({label.split(" · ")[0] for label in columns.options}) == 101
    assert any(label.startswith(f"{old.name} ·") for label in columns.options)
    assert old.name in {names_of(many_runs)[id] for id in columns.value}


def names_of(store: Store) -> dict[int, str]:
    """Names of runs by the ids of their evaluations."""
    names = {run.id: run.name for run in list_run_heads(store)}
    found = evaluations_by_run(store, list(names))
    return {each.id: names[run] for run, rows in found.items() for each in rows}


def test_the_table_lists_the_newest_runs_and_finds_the_others(many_runs: Store, open_page: Open) -> None:
    app = open_page("runs")
    assert len(app.dataframe[0].value) == 200
    assert f"Showing the newest 200 of {MANY} runs: filter or search to find others." in words(app)
    app.text_input(key="runs_search").set_value("many000003").run()
    assert list(app.dataframe[0].value["name"]) == ["run 3"] and "the newest 200 of" not in words(app)
    app.text_input(key="runs_search").set_value("").run()
    app.toggle(key="runs_all").set_value(True).run()
    assert len(app.dataframe[0].value) == MANY


def test_the_head_of_a_run_is_its_row_without_figures(many_runs: Store) -> None:
    whole = {run.id: run for run in list_runs(many_runs)}
    for head in list_run_heads(many_runs):
        full = whole[head.id]
        same = [name for name in RunRow.__dataclass_fields__ if getattr(head, name) == getattr(full, name)]
        left_out = {"evaluation", "evaluation_kind", "evaluation_step", "seconds_per_step", "tokens_per_second"}
        assert set(RunRow.__dataclass_fields__) - set(same) == left_out | {"sparkline"}


def test_the_pace_of_a_new_run_is_that_of_the_newest_alike(many_runs: Store, open_page: Open) -> None:
    app = open_page("launch", preset="shapes-sft")
    told = [each.value for each in app.text]
    assert any("earlier runs with these settings took 1.0 s per update (median)." in text for text in told)


def endless() -> None:
    import time

    from app.shared import data

    until = time.monotonic() + 30
    while time.monotonic() < until:
        data.list_run_heads()


def test_a_script_whose_tab_is_closed_stops(many_runs: Store) -> None:
    """AppTest asks it to end after a second, as Streamlit does for a closed tab, and waits until it has."""
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="timed out"):
        AppTest.from_function(endless, default_timeout=1).run()
    assert time.monotonic() - start < 15
