"""When did it start to reason? From the milestones to the traces, through training with one question, in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from scripts.browsing import Server, click_chart, goto, no_exception, wait_until_idle
from store.db.engine import open_store
from store.runs import list_runs

pytestmark = pytest.mark.e2e


@pytest.fixture
def page(seeded: Server, browser_page: Page) -> Page:
    """The story of the finished GRPO run."""
    store = open_store(seeded.database, readonly=True)
    uid = next(run.uid for run in list_runs(store) if run.name == "shapes-grpo")
    store.close()
    goto(browser_page, f"{seeded.url}/emergence?run={uid}")
    expect(browser_page.locator(".live-chart .main-svg").first).to_be_visible()
    return browser_page


def test_a_milestone_leads_to_the_traces_around_it(page: Page) -> None:
    """Somebody sees when the format locked in, reads what was said before, and opens that very trace."""
    card = page.locator(".st-key-milestone_format")
    expect(card).to_contain_text(re.compile(r"Format locked in · step \d+"))
    before = card.get_by_role("link", name="Just before")
    step = int(re.findall(r"step (\d+)", before.inner_text())[0])
    before.click()
    page.wait_for_url(f"**/traces?**step={step}**")
    wait_until_idle(page)
    no_exception(page)
    expect(page.locator(".tv-chosen")).to_have_count(1)


def test_all_rows_share_one_cursor(page: Page) -> None:
    """A click into any row sets the step for all, the address keeps it, and zooming one row zooms them all."""
    rows = page.locator(".live-chart .nsewdrag")
    expect(rows).to_have_count(8)
    click_chart(page, rows.nth(3))
    expect(page.get_by_text("Cursor at step")).to_be_visible()
    expect(page).to_have_url(re.compile(r"[?&]step=\d+"))
    axes = "chart => Object.keys(chart._fullLayout).filter(name => /^xaxis\\d*$/.test(name)).length"
    assert page.locator(".live-chart").evaluate(axes) == 1


def test_the_time_machine_shows_what_changed(page: Page) -> None:
    """The arrow key goes back to the evaluation before; the words that changed since the one before that are marked."""
    slider = page.get_by_test_id("stSlider").get_by_role("slider")
    slider.scroll_into_view_if_needed()
    slider.focus()
    slider.press("ArrowLeft")
    expect(page.get_by_text("changes since step 50 are marked")).to_be_visible()
    expect(page.locator(".wd ins, .wd del").first).to_be_visible()
    image = page.locator("img.tv-image").first
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    no_exception(page)
