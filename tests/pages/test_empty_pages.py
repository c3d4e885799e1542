"""No page, in any state of its runs, shows an empty frame, or nothing without a reason and something to do next."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Block, Element

from app.shared import data
from store.db.engine import Store
from store.db.states import JobState
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.examples import add_examples
from store.jobs import add_job, end_job
from store.steps import record_step
from tests.pages.opening import MAIN
from tests.store import make

OF_RUNS = ("runs", "tour", "run", "traces", "emergence", "find", "rewards", "curves", "sweep", "compare", "drift")
OF_ALL = ("launch", "record", "datasets", "system")
SHOWN = ("arrow_data_frame", "arrow_table", "table", "metric", "plotly_chart", "code", "imgs", "json", "text_area")
"""Types of elements that show something, or a text to write."""
REASONS = ("info", "warning", "error", "success", "caption", "text", "markdown")
ACTIONS = ("button", "page_link", "download_button", "link_button", "form_submit_button")


def with_steps(store: Store, run_id: int, count: int) -> None:
    (example,) = add_examples(store, [make.example("a")])
    for step in range(1, count + 1):
        rows = [make.completion(index, example_id=example) for index in range(2)]
        record_step(store, run_id, step, {"reward": step / count}, at=float(step), completions=rows)


def evaluated(store: Store, run_id: int) -> None:
    (example,) = add_examples(store, [make.example("held-out")])
    asked: dict[str, Any] = {"split": "val", "conditions": {}, "encoder": None, "total": 1}
    evaluation = begin_evaluation(store, run_id, benchmark="shapes-simple", kind="val", step=3, **asked)
    record_predictions(store, evaluation, [make.prediction(example)])
    finish_evaluation(store, evaluation, {"exact_match": 1.0, "n": 1})


def queued(store: Store, run_id: int) -> None:
    add_job(store, run_id, "train", {})


def loading(store: Store, run_id: int) -> None:
    make.running_job(store, run_id)


def first_step(store: Store, run_id: int) -> None:
    make.running_job(store, run_id)
    with_steps(store, run_id, 1)


def running(store: Store, run_id: int) -> None:
    make.running_job(store, run_id)
    with_steps(store, run_id, 30)
    evaluated(store, run_id)


def stopped(store: Store, run_id: int) -> None:
    job = make.running_job(store, run_id)
    with_steps(store, run_id, 3)
    end_job(store, job, JobState.STOPPED)


def failed_at_once(store: Store, run_id: int) -> None:
    job = make.running_job(store, run_id)
    end_job(store, job, JobState.FAILED, error_kind="config", error="The model cannot be found: name another.")


def curves_only(store: Store, run_id: int) -> None:
    """As an import of another tool leaves it: metrics, no job, no text."""
    make.steps(store, run_id, 5)


STATES = (queued, loading, first_step, running, stopped, failed_at_once, curves_only)


def leaves(block: Block) -> Iterator[Element]:
    for child in block.children.values():
        if isinstance(child, Block):
            yield from leaves(child)
        else:
            yield child


def blocks(block: Block) -> Iterator[Block]:
    for child in block.children.values():
        if isinstance(child, Block):
            yield child
            yield from blocks(child)


def is_drawn(element: Element) -> bool:
    """Return whether an element is a chart of ours, or HTML that is more than a style."""
    if element.type == "bidi_component":
        return "live_chart" in str(element.proto.component_name)
    return element.type == "html" and "<style" not in element.proto.body


def faults(app: AppTest) -> list[str]:
    """Return what is empty on a page without saying why."""
    found = []
    for block in blocks(app.main):
        is_framed = getattr(block.proto, "flex_container", None) is not None and block.proto.flex_container.border
        if is_framed and not list(leaves(block)):
            found.append(f"an empty frame: {block.proto.id or block.type}")
    for table in app.dataframe:
        if not len(table.value):
            found.append("a table without rows")
    for element in leaves(app.main):
        if element.type == "plotly_chart" and not json.loads(element.proto.spec or "{}").get("data"):
            found.append("a chart without curves")
    types = [element.type for element in leaves(app.main)]
    types += ["plotly_chart" for element in leaves(app.main) if is_drawn(element)]
    has_reason = any(kind in REASONS for kind in types)
    if not any(kind in SHOWN for kind in types) and not (has_reason and any(kind in ACTIONS for kind in types)):
        found.append(f"nothing to see and nothing to do: {sorted(set(types))}")
    return found


def visit(pages: tuple[str, ...], **query: str) -> dict[str, list[str]]:
    """Open the pages one after another, as a reader does; return what is empty, by page."""
    app = AppTest.from_file(str(MAIN), default_timeout=240).run()
    found = {}
    for page in pages:
        for name, value in query.items():
            app.query_params[name] = value
        app.switch_page(f"../pages/{page}.py").run()
        assert not app.exception, (page, app.exception)
        if told := faults(app):
            found[page] = told
    return found


def test_without_any_run(empty_store: Store) -> None:
    assert visit((*OF_RUNS, *OF_ALL)) == {}


@pytest.mark.parametrize("state", STATES, ids=lambda state: str(state.__name__))
@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_with_one_run(empty_store: Store, state: Callable[[Store, int], None], method: str) -> None:
    run = make.run(empty_store, "only", method=method, max_steps=30)
    state(empty_store, run.id)
    data.forget()
    assert visit(OF_RUNS, run=run.uid) == {}


def test_an_empty_frame_would_be_seen() -> None:
    """The check itself: it finds what it is for."""

    def script() -> None:
        import pandas as pd
        import plotly.graph_objects as go
        import streamlit as st

        st.container(border=True)
        st.dataframe(pd.DataFrame({"a": []}))
        st.plotly_chart(go.Figure())

    told = " ".join(faults(AppTest.from_function(script).run()))
    assert "an empty frame" in told and "without rows" in told and "without curves" in told

    def silent() -> None:
        import streamlit as st

        st.title("Nothing")

    assert "nothing to do" in faults(AppTest.from_function(silent).run())[0]
