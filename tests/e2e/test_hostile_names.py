"""Names and texts from outside are shown as they stand: no page makes markup of them, or fetches what they name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import text

from scripts import browsing
from scripts.browsing import goto, no_exception, wait_until_idle
from store.runs import add_tag, list_runs
from store.surroundings.code import Source, add_code
from store.views import save_view
from tests import visited
from tests.visited import PAGES, address_of

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
WITHOUT = ("launch", "tour", "record")
"""Pages that show nothing from outside."""
MARKUP = (
    "img[src*='127.0.0.1:9'], a[href*='127.0.0.1:9'], a[href^='javascript'], svg a, .katex,"
    " [data-testid='stMarkdownColoredText']"
)
OFFERS = ("[role='combobox']", "[data-testid='stPopover'] button")
"""What opens a list, or a form, over the page."""
CHARTS = 3
"""Charts of each page whose points are looked at."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    folder = tmp_path_factory.mktemp("hostile")
    store = visited.fill(folder / "test.db", benchmark=HOSTILE)
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
