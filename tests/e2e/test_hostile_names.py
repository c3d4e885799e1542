"""Names and texts from outside are shown as they stand: no page makes markup of them, or fetches what they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import text

from scripts import browsing
from scripts.browsing import goto, no_exception, wait_until_idle
from store.datasets import begin_index, fail_index
from store.db.engine import Store, open_store
from store.experiments import add_to_experiment, create_experiment, list_experiments
from store.jobs import add_job, beat_job, start_job, upsert_worker
from store.notes import note_trace, tag_traces
from store.runs import add_tag, list_runs
from store.surroundings.code import Source, add_code
from store.views import save_view
from tests.compared import compare_database
from tests.seeded import ELSEWHERE, find, seed_database

pytestmark = pytest.mark.e2e

HOSTILE = (
    " ![x](http://127.0.0.1:9/x.png) <img src=http://127.0.0.1:9/y.png> <a href=http://127.0.0.1:9/z>z</a> "
    "[a](javascript:1) :red[b] $c$ **d**"
)
COLUMNS = {
    "run": ("name", "model", "dataset", "note"),
    "evaluation": ("benchmark",),
    "job": ("activity", "error", "host"),
    "event": ("message",),
    "example": ("dataset", "question", "reference"),
    "experiment": ("name",),
    "experiment_run": ("arm",),
    "metric_name": ("name",),
    "completion": ("text",),
    "prediction": ("text",),
    "trace_tag": ("name",),
    "trace_note": ("text",),
    "dataset_index": ("name", "path", "dataset", "revision", "host", "error"),
    "worker": ("host",),
    "checkpoint": ("path",),
}
PAGES = (
    "",
    "run",
    "run?tab=Evaluations",
    "run?tab=Machine",
    "run?tab=Configuration",
    "run?tab=Log",
    "run?tab=Events",
    "traces",
    "traces?view=Predictions",
    "traces?completion=1",
    "traces?prediction=1",
    "find",
    "rewards",
    "rewards?view=A+whole+run",
    "emergence",
    "emergence?run=ONE&with=OTHER",
    "launch",
    "launch?clone=ONE",
    "curves",
    "curves?runs=ONE,OTHER",
    "compare",
    "compare?runs=ONE,OTHER",
    "curves?group=-",
    "curves?runs=ONE,OTHER&numbers=Reward&wide=Reward",
    "sweep",
    "sweep?runs=ONE,OTHER&picture=Scatter",
    "sweep?picture=Heat+map",
    "drift",
    "drift?runs=ONE,OTHER",
    "drift?runs=ONE,OTHER&view=Over+training",
    "drift?runs=ONE,OTHER&view=Map",
    "drift?runs=ONE,OTHER&view=What+changed",
    "datasets",
    "datasets?view=Overlap",
    "datasets?view=Seen+by+base+models",
    "system",
    "tour",
    "record",
    "compare?experiment=OPEN",
    "curves?experiment=OPEN",
    "run?run=RUNNING",
    "run?run=WAITING",
    "run?run=FAILED",
    "traces?run=RUNNING",
    "emergence?run=RUNNING",
)
WITHOUT = ("launch", "tour", "record")
"""Pages that show nothing from outside."""
MARKUP = (
    "img[src*='127.0.0.1:9'], a[href*='127.0.0.1:9'], a[href^='javascript'], svg a, .katex,"
    " [data-testid='stMarkdownColoredText']"
)
OFFERS = ("[role='combobox']", "[data-testid='stPopover'] button")
"""What opens a list, or a form, over the page."""
STATES = {"RUNNING": "running", "WAITING": "queued", "FAILED": "out_of_memory"}
"""Names in PAGES of runs that have not finished."""
CHARTS = 3
"""Charts of each page whose points are looked at."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    folder = tmp_path_factory.mktemp("hostile")
    seed_database(folder / "test.db")
    store = open_store(str(folder / "test.db"))
    add_open_work(store)
    compare_database(folder / "test.db", seeds=(0, 1), n=8)
    for run in list_runs(store):
        add_tag(store, run.id, f"tag{HOSTILE}"[:100])
        add_code(store, run.id, Source(f"0{HOSTILE}", (f"file{HOSTILE}",), f"+{HOSTILE}"))
    for page in ("runs", "curves", "sweep"):
        save_view(store, page, f"view{HOSTILE}"[:100], "group=arm")
    with store.engine.begin() as connection:
        for table, columns in COLUMNS.items():
            for column in columns:
                change = f"UPDATE {table} SET {column} = coalesce({column}, '') || :hostile"
                connection.execute(text(change), {"hostile": HOSTILE})
        groups = (
            "UPDATE metric_name SET name = :hostile || name WHERE name LIKE '%/%'"  # shown by what is before a slash
        )
        connection.execute(text(groups), {"hostile": HOSTILE.strip().replace("/", "")})
    store.close()
    with browsing.serving(f"sqlite:///{folder}/test.db", folder / "server.log", jobs_end=True) as server:
        yield server


def add_open_work(store: Store) -> None:
    """An experiment whose runs run, wait and failed; an evaluation and an index at work, and one that failed."""
    runs = {run.status: run for run in list_runs(store)}
    made = create_experiment(store, name="open", matrix={})
    for state in STATES.values():
        add_to_experiment(store, made.id, runs[state].id, "arm")
    here = {"host": ELSEWHERE, "boot_id": "b", "pid": 7, "pid_started": 1.0}
    upsert_worker(store, **here)
    job = add_job(store, find(store, "shapes-sft").id, "evaluate", {"benchmark": HOSTILE})
    start_job(store, job.id, **here, log_path=None)
    beat_job(store, job.id, "answering", 1, 8)
    begin_index(store, name="folder", path="at work", split="train", limit=9, **here)
    fail_index(store, begin_index(store, name="folder", path="x", split="test", limit=9, **here), "It broke.")
    tag_traces(store, "completion", [1], "read")
    note_trace(store, "completion", 1, "read")


def address_of(server: browsing.Server, page: str) -> str:
    """Return a page's address with the uids of the runs and of the experiment that it names."""
    store = open_store(server.database, readonly=True)
    uids = {run.status: run.uid for run in list_runs(store)}
    one, other = [run.uid for run in list_runs(store) if run.method == "grpo" and run.lora_rank == 32][:2]
    names = {"ONE": one, "OTHER": other} | {name: uids[state] for name, state in STATES.items()}
    names["OPEN"] = next(each.uid for each in list_experiments(store) if each.name.startswith("open"))
    store.close()
    return f"{server.url}/{re.sub('|'.join(names), lambda found: names[found[0]], page)}"


def test_every_page_is_visited() -> None:
    found = {path.stem for path in (Path(__file__).parents[2] / "pages").glob("*.py")}
    assert found == {address.partition("?")[0] or "runs" for address in PAGES}


def is_plain(page: Page, where: str) -> None:
    assert page.locator(MARKUP).evaluate_all("found => found.map(each => each.outerHTML)") == [], where


def look_into(page: Page, offer: Locator) -> None:
    """Open what an element offers, look at it, and close it again."""
    offer.scroll_into_view_if_needed()
    offer.click()
    expect(page.locator("[role='option'], [data-testid='stPopoverBody']").first).to_be_visible()
    is_plain(page, offer.evaluate("each => each.outerHTML"))
    page.keyboard.press("Escape")


@pytest.mark.parametrize("address", PAGES)
def test_nothing_from_outside_becomes_markup(hostile: browsing.Server, browser_page: Page, address: str) -> None:
    """Nor in the lists and forms that a page opens, nor at the points of its charts; and nothing is fetched."""
    page, port, left = browser_page, urlsplit(hostile.url).port, []

    def watch(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws") and (parts.hostname, parts.port) != ("127.0.0.1", port):
            left.append(url)

    page.on("request", lambda request: watch(request.url))
    goto(page, address_of(hostile, address))
    no_exception(page)
    is_plain(page, address)
    if address not in WITHOUT:
        expect(page.locator("body")).to_contain_text(":red[b]")
    for offers in OFFERS:
        for offer in page.get_by_test_id("stMain").locator(offers).all():
            if offer.is_visible() and offer.is_enabled():
                look_into(page, offer)
    for chart in page.locator(".nsewdrag").all()[:CHARTS]:
        chart.hover()
    wait_until_idle(page)
    no_exception(page)
    is_plain(page, address)
    assert not left
