"""Names and texts from outside are shown as they stand: no page makes markup of them, or fetches what they name."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page
from sqlalchemy import text

from scripts import browsing
from scripts.browsing import goto, no_exception, wait_until_idle
from store.db.engine import open_store
from store.runs import add_tag, list_runs
from tests.compared import compare_database

pytestmark = pytest.mark.e2e

HOSTILE = " ![x](http://127.0.0.1:9/x.png) <img src=http://127.0.0.1:9/y.png> [a](javascript:1) :red[b] $c$ **d**"
COLUMNS = {
    "run": ("name", "model", "note"),
    "experiment": ("name",),
    "event": ("message",),
    "example": ("question", "reference"),
}
PAGES = (
    "drift?runs=TWO",
    "compare?runs=TWO",
    "emergence?runs=TWO",
    "traces?completion=1",
    "traces?prediction=1",
    "",
    "run",
    "traces",
    "find",
    "rewards",
    "emergence",
    "launch",
    "compare",
    "drift",
    "datasets",
    "system",
)
MARKUP = "img[src*='127.0.0.1:9'], a[href^='javascript'], [data-testid='stMarkdownColoredText']"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    folder = tmp_path_factory.mktemp("hostile")
    compare_database(folder / "test.db", seeds=(0, 1), n=8)
    store = open_store(str(folder / "test.db"))
    for run in list_runs(store):
        add_tag(store, run.id, f"tag{HOSTILE}")
    with store.engine.begin() as connection:
        for table, columns in COLUMNS.items():
            for column in columns:
                change = f"UPDATE {table} SET {column} = coalesce({column}, '') || :hostile"
                connection.execute(text(change), {"hostile": HOSTILE})
    store.close()
    with browsing.serving(f"sqlite:///{folder}/test.db", folder / "server.log", jobs_end=True) as server:
        yield server


def two_of_a_kind(server: browsing.Server) -> str:
    """Return the uids of two runs of one method and rank, which pages tell apart by their names."""
    store = open_store(server.database, readonly=True)
    uids = [run.uid for run in list_runs(store) if run.method == "grpo" and run.lora_rank == 32][:2]
    store.close()
    return ",".join(uids)


@pytest.mark.parametrize("page", PAGES)
def test_nothing_from_outside_becomes_markup(hostile: browsing.Server, browser_page: Page, page: str) -> None:
    port, left = urlsplit(hostile.url).port, []

    def watch(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws") and (parts.hostname, parts.port) != ("127.0.0.1", port):
            left.append(url)

    browser_page.on("request", lambda request: watch(request.url))
    goto(browser_page, f"{hostile.url}/{page.replace('TWO', two_of_a_kind(hostile))}")
    wait_until_idle(browser_page)
    no_exception(browser_page)
    assert not left
    assert browser_page.locator(MARKUP).evaluate_all("found => found.map(each => each.outerHTML)") == []
