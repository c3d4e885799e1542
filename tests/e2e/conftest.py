"""A real server and a real browser for each journey."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from scripts import browsing

PATIENCE_MS = 90_000
"""How long a person would wait on a machine that is busy with something else."""
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[browsing.Server]:
    """The app on an empty database of its own."""
    with browsing.serving(f"sqlite:///{tmp_path}/test.db", tmp_path / "server.log", jobs_end=True) as started:
        yield started


# For a module, not for the session: Playwright's loop would be in the way of other tests that use asyncio.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing.browser() as opened:
        yield opened


@pytest.fixture
def browser_page(browser: Browser) -> Iterator[Page]:
    """A fresh page, 1440 pixels wide; an uncaught error of its scripts fails the test."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    errors: list[Error] = []
    page.on("pageerror", lambda error: errors.append(error))
    yield page
    page.close()
    assert not errors
