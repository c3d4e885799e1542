"""A run of another tool, with all the holes that it has, on every page that can show it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from store.completions.rows import list_completions
from store.db.engine import Store
from store.db.rows import RunDetail
from store.importing.saving import import_runs
from store.jobs import list_jobs
from store.runs import get_run, list_runs, resolve_run
from tests.pages.test_trace_view import HOSTILE
from tests.store.test_importing import IMPORTED, group, write_state, write_tables

Open = Callable[..., AppTest]
PAGES = ("runs", "run", "traces", "emergence", "find", "rewards", "compare", "datasets", "launch")


def imported(store: Store, tool: str, path: Path) -> RunDetail:
    (made,) = import_runs(store, tool, str(path)).runs
    return get_run(store, resolve_run(store, made.uid))


@pytest.fixture
def from_trl(empty_store: Store, tmp_path: Path) -> RunDetail:
    """Twelve steps, of which each has two groups, a prompt of which none can be told, and hostile texts."""
    texts = [text.encode("utf-8", "replace").decode() for text in HOSTILE]
    steps = {
        step: [
            *group("How many cows?", [1.0, 0.0]),
            *group(texts[step % len(texts)], [1.0, 1.0], texts[step % len(texts)]),
            *group("How many?", [1.0, 0.0]),
            *group("How many?", [0.0, 0.0]),
        ]
        for step in range(1, 13)
    }
    write_state(tmp_path / "out", [{"step": step, "reward": 0.5, "loss": 1 / step} for step in steps])
    return imported(empty_store, "trl", write_tables(tmp_path / "out", steps))


@pytest.fixture
def from_tensorboard(empty_store: Store) -> RunDetail:
    return imported(empty_store, "tensorboard", IMPORTED)


def texts_of(at: AppTest) -> str:
    """What a page says, without the backslashes that keep text from being Markdown."""
    kinds = ("html", "caption", "markdown", "info", "text")
    return "\n".join(str(each.value) for kind in kinds for each in at.get(kind)).replace("\\", "")


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_a_run_of_trl(from_trl: RunDetail, open_page: Open, page: str) -> None:
    open_page(page, run=from_trl.uid)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_a_run_without_completions(from_tensorboard: RunDetail, open_page: Open, page: str) -> None:
    open_page(page, run=from_tensorboard.uid)


@pytest.mark.parametrize("tab", ["Curves", "Completions", "Evaluations", "Config", "Log", "Events"])
def test_every_tab_of_a_run_is_shown(from_trl: RunDetail, open_page: Open, tab: str) -> None:
    at = open_page("run", run=from_trl.uid, tab=tab)
    shown = texts_of(at)
    assert "Imported from trl; data that it did not record is missing." in shown
    assert "48 of 96 completions is unknown" in shown


def test_traces_say_which_groups_are_unknown(empty_store: Store, from_trl: RunDetail, open_page: Open) -> None:
    at = open_page("traces", run=from_trl.uid, step="3")
    assert not [each for each in at.html if "<script" in each.value]
    assert sum("group unknown" in str(each.value) for each in at.markdown) == 1
    assert [each.value for each in at.caption if each.value.startswith("group of")] == ["group of 2"] * 2
    for row in list_completions(empty_store, from_trl.id, steps=(3, 3)):
        at = open_page("traces", completion=str(row.id))
        assert f"**Completion {row.id}**" in texts_of(at)
        assert not [each for each in at.button if each.key == "inspect.measure"]


def test_without_completions_traces_say_so(from_tensorboard: RunDetail, open_page: Open) -> None:
    for page in ("traces", "emergence"):
        assert "imported without completions" in texts_of(open_page(page, run=from_tensorboard.uid))


def test_an_imported_run_is_no_process(from_trl: RunDetail, empty_store: Store, open_page: Open) -> None:
    assert list_jobs(empty_store) == []
    assert list_runs(empty_store)[0].status is None
    at = open_page("run", run=from_trl.uid)
    assert {"run_stop", "run_resume"}.isdisjoint(each.key for each in at.button)
    assert any("imported" in str(each.value) for each in at.markdown)
    open_page("launch", clone=from_trl.uid)


def test_completions_of_an_evaluation_are_marked_and_found(empty_store: Store, tmp_path: Path, open_page: Open) -> None:
    history = [{"step": step, "reward": 0.5, "rewards/format/mean": 0.5} for step in (1, 2)]
    write_state(tmp_path / "out", [*history, {"step": 2, "eval_reward": 0.1, "eval_rewards/format/mean": 0.1}])
    steps = {1: group("How many?", [1.0, 0.0]), 2: group("How many?", [0.2, 0.0], "of the evaluation")}
    run = imported(empty_store, "trl", write_tables(tmp_path / "out", steps))
    shown = texts_of(open_page("traces", run=run.uid, step="2"))
    assert "evaluation samples at step 2 are under Predictions" in shown and "of the evaluation" not in shown
    shown = texts_of(open_page("traces", run=run.uid, view="Predictions"))
    assert "of the evaluation" in shown
    assert "At step 2, TRL kept the completions of the evaluation" in texts_of(open_page("run", run=run.uid))
    for page in PAGES:
        open_page(page, run=run.uid)
