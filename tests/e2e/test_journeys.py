"""What somebody does with the dashboard, from the first visit to a resumed run. Each docstring is the promise."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from scripts import browsing
from scripts.browsing import goto, no_exception, overflow, wait_until_idle
from store import read
from store.engine import open_store
from tests.seeded import seed_database

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("browser")]

FIRST_STEPS = 120_000
"""Milliseconds until a run has loaded its model, looked at the base and made its first steps, on a busy machine."""


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    """The app on a database that holds runs in every state."""
    folder = tmp_path_factory.mktemp("seeded")
    seed_database(folder / "test.db", now=time.time())
    with browsing.serving(f"sqlite:///{folder}/test.db", folder / "server.log") as server:
        yield server


def uid_of(server: browsing.Server, name: str) -> str:
    store = open_store(server.database, readonly=True)
    uids = [run.uid for run in read.runs(store) if run.name == name]
    store.close()
    return uids[0]


def set_field(page: Page, label: str, value: str) -> None:
    field = page.get_by_label(label, exact=True)
    field.fill(value)
    field.press("Enter")
    wait_until_idle(page)


def unfold(page: Page, title: str) -> None:
    page.get_by_test_id("stExpander").filter(has_text=title).locator("summary").click()


def test_first_visit_says_what_this_is_and_starts_the_demo(server: browsing.Server, browser_page: Page) -> None:
    """Somebody without runs reads three sentences, presses Start the demo, and has both demo runs."""
    goto(browser_page, server.url)
    card = browser_page.locator(".st-key-welcome")
    text = card.get_by_test_id("stMarkdown").all_inner_texts()
    assert len(re.findall(r"\.(?:\s|$)", " ".join(text))) == 3
    card.get_by_role("button", name="Start the demo").click()
    for name in ("demo-grpo", "demo-sft"):
        expect(browser_page.get_by_text(name).first).to_be_visible()
    wait_until_idle(browser_page)
    no_exception(browser_page)


PAGES = ("runs", "launch", "run", "traces")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 800])
def test_every_page_fits_its_window(seeded: browsing.Server, browser_page: Page, width: int, scheme: str) -> None:
    """Every page of every run shows without an error and without a horizontal scroll bar, light and dark."""
    browser_page.set_viewport_size({"width": width, "height": 900})
    browser_page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    addresses = ["/runs", "/launch"]
    for name in ("demo-grpo", "demo-sft", "smolvlm-256m-*r64*"):
        addresses += [f"/{page}?run={uid_of(seeded, name)}" for page in ("run", "traces")]
    for address in addresses:
        goto(browser_page, seeded.url + address)
        no_exception(browser_page)
        assert overflow(browser_page) <= 0, address


def test_the_browser_pages_are_all_visited() -> None:
    found = {path.stem for path in (Path(__file__).parents[2] / "pages").glob("*.py")}
    assert found == set(PAGES)
