"""The two controls at the foot of the menu: the light or dark look, and the sheet of keys."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from scripts import browsing
from scripts.browsing import goto, no_exception, wait_until_idle

pytestmark = pytest.mark.e2e

BRIGHTNESS = """() => {
    const [r, g, b] = getComputedStyle(document.querySelector("[data-testid='stApp']")).backgroundColor.match(/\\d+/g)
    return (Number(r) + Number(g) + Number(b)) / 3
}"""


def brightness(page: Page) -> float:
    """Return the background's mean of red, green and blue, 0 to 255."""
    wait_until_idle(page)
    return float(page.evaluate(BRIGHTNESS))


def test_the_look_is_chosen_once_for_all_pages(server: browsing.Server, browser_page: Page) -> None:
    """Dark stays dark on other pages and after a reload, whatever the system prefers, until light is chosen."""
    page = browser_page
    page.emulate_media(color_scheme="light")
    goto(page, server.url)
    assert brightness(page) > 200
    page.get_by_role("button", name="Dark theme").click()
    light = page.get_by_role("button", name="Light theme")
    expect(light).to_be_visible()
    assert brightness(page) < 60
    page.get_by_test_id("stSidebar").get_by_role("link", name="Launch").click()
    page.wait_for_url("**/launch*")
    assert brightness(page) < 60
    goto(page, f"{server.url}/system")
    assert brightness(page) < 60
    light.click()
    expect(page.get_by_role("button", name="Dark theme")).to_be_visible()
    assert brightness(page) > 200
    goto(page, server.url)
    assert brightness(page) > 200
    no_exception(page)


def test_the_sheet_of_keys_opens_by_its_button_and_by_its_key(server: browsing.Server, browser_page: Page) -> None:
    """It lists the keys by place, closes by Escape, and a question mark that somebody types is only text."""
    page = browser_page
    goto(page, f"{server.url}/launch")
    sheet = page.get_by_role("dialog")
    page.get_by_test_id("stSidebar").get_by_role("button", name="Keys").click()
    for place in ("Every page", "Traces", "Drift"):
        expect(sheet.get_by_text(place, exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
    wait_until_idle(page)
    page.keyboard.press("?")
    expect(sheet.get_by_text("show this list")).to_be_visible()
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
    wait_until_idle(page)
    name = page.locator("[class*='st-key-launch-'][class*='-name'] input").first
    name.click()
    page.keyboard.type("why?")
    name.press("Enter")
    wait_until_idle(page)
    expect(name).to_have_value(re.compile(r"why\?$"))
    expect(sheet).to_have_count(0)
