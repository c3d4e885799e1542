"""From runs that nobody has embedded to the traces of an area of their map, in a browser with the real encoder."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from scripts import browsing
from scripts.browsing import Server, goto, no_exception, wait_until_idle
from store.db.engine import open_store
from store.jobs import ask_stop, list_jobs
from tests import seeded

pytestmark = pytest.mark.e2e
PATIENCE = 240_000
"""Milliseconds; two processes load the encoder, and the machine may be busy."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("drift")
    seeded.seed_database(folder / "test.db", now=time.time())
    store = open_store(str(folder / "test.db"))
    for job in list_jobs(store, open_only=True):
        if job.state == "queued":
            ask_stop(store, job.id)  # only embedding shall run here
    store.close()
    with browsing.serving(f"sqlite:///{folder}/test.db", folder / "server.log", jobs_end=True) as started:
        yield started


def address(server: Server, view: str) -> str:
    store = open_store(server.database, readonly=True)
    uids = ",".join(seeded.find(store, name).uid for name in ("shapes-sft", "shapes-grpo"))
    store.close()
    return f"{server.url}/drift?runs={uids}&view={view}"


def test_embedding_goes_on_beside_the_page_and_leads_to_traces(server: Server, browser_page: Page) -> None:
    """Somebody presses the button, sees how far it is, reads other views meanwhile, and opens a trace of the map."""
    page = browser_page
    goto(page, address(server, "Map"))
    page.get_by_role("button", name="Embed traces").click()
    expect(page.get_by_test_id("stMain").get_by_role("progressbar").first).to_be_visible(timeout=PATIENCE)
    page.get_by_text("Side by side", exact=True).click()
    wait_until_idle(page)
    no_exception(page)
    at_work = page.get_by_test_id("stMain").get_by_role("progressbar")
    expect(at_work.nth(1)).to_have_count(0, timeout=PATIENCE)  # one run after the other
    expect(at_work).to_have_count(0, timeout=PATIENCE)
    expect(page.get_by_role("button", name="Embed traces")).to_have_count(0)

    goto(page, address(server, "Over+training"))
    expect(page.locator(".live-chart .main-svg").first).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("SFT imitates the references").last).to_be_visible()

    goto(page, address(server, "Map"))
    plot = page.locator(".stPlotlyChart .nsewdrag").first
    expect(plot).to_be_visible(timeout=PATIENCE)
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2, steps=10)
    page.mouse.up()
    expect(page.get_by_text("answers selected")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Nearest in each run").first.click()
    expect(page.get_by_text("nearest reference")).to_be_visible(timeout=PATIENCE)
    wait_until_idle(page)
    no_exception(page)
    page.locator("[data-testid='stPageLink'] a", has_text="right").first.click()
    page.wait_for_url("**/traces?**prediction=**")
    wait_until_idle(page)
    no_exception(page)
