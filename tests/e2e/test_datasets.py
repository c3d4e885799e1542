"""A dataset from the form to its examples and to what it shares with another, in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from scripts.browsing import Server, goto, no_exception, overflow, wait_until_idle

pytestmark = pytest.mark.e2e
UNFOLDED = "document.querySelector('.st-key-index details').getAnimations({subtree: true}).length === 0"
"""A list that is opened while the form still unfolds shuts at once, as lists do when the page moves under them."""


def index(page: Page, split: str, number: int) -> None:
    """Fills the form in and sends it."""
    field = page.locator(".st-key-index-split")
    field.get_by_role("button", name="Open").click()
    page.get_by_role("option", name=split, exact=True).click()
    expect(field.get_by_role("combobox")).to_have_value(split)
    limit = page.locator(".st-key-index-limit input")
    limit.fill(str(number))
    limit.press("Tab")
    page.get_by_role("button", name="Index", exact=True).click()
    expect(page.get_by_text(f"Indexing shapes-simple ({split}).")).to_be_visible()


def test_a_dataset_is_indexed_browsed_and_compared(server: Server, browser_page: Page) -> None:
    """Somebody without runs indexes two splits, opens an example at its own address, and sees what the splits share."""
    page = browser_page
    goto(page, f"{server.url}/datasets")
    expect(page.get_by_text("No examples yet.")).to_be_visible()
    index(page, "train", 60)
    expect(page.locator(".eg-card")).to_have_count(24)
    image = page.locator("img.eg-image").first
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 96

    page.locator(".eg-card").first.click()
    page.wait_for_url("**/datasets?**example=*")
    wait_until_idle(page)
    expect(page.get_by_text(re.compile(r"true count \d"))).to_be_visible()
    page.get_by_role("button", name="All examples").click()
    page.wait_for_url(lambda url: "example=" not in url)
    expect(page.locator(".eg-card")).to_have_count(24)
    wait_until_idle(page)

    page.locator(".st-key-index summary").click()
    page.wait_for_function(UNFOLDED)
    index(page, "test", 50)
    page.get_by_test_id("stMain").get_by_text("Overlap", exact=True).click()
    expect(page.get_by_text("Affected benchmark questions")).to_be_visible()
    expect(page.get_by_text("No run has been tested on this benchmark yet.")).to_be_visible()
    wait_until_idle(page)
    no_exception(page)
    assert overflow(page) <= 0
