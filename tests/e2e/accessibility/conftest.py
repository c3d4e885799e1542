"""One server for all tests of accessibility: every page in its main states, with recorded runs that fill each part."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from app import recorded
from scripts import browsing
from store.views import save_view
from tests import visited
from tests.e2e.conftest import PATIENCE_MS


@pytest.fixture(scope="package")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    folder = tmp_path_factory.mktemp("accessibility")
    store = visited.fill(folder / "test.db")
    recorded.load(store)
    save_view(store, "runs", "by arm", "group=arm")
    store.close()
    with browsing.serving(f"sqlite:///{folder}/test.db", folder / "server.log", jobs_end=True) as server:
        yield server


@pytest.fixture(scope="package")
def calm(browser: Browser) -> Iterator[Page]:
    """One page for all tests, so that the browser keeps the scripts; it asks for little motion."""
    page = browser.new_page(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    page.set_default_timeout(PATIENCE_MS)
    yield page
    page.close()
