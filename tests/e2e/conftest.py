"""A real browser for all journeys, and a real server: one that they share, or one of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from scripts import browsing
from store.db.engine import open_store
from tests import compared, overlaid
from tests.e2e import hostile_texts
from tests.seeded import seed_database

PATIENCE_MS = 90_000
"""How long a person would wait on a machine that is busy with something else."""
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[browsing.Server]:
    """The app on an empty database of its own."""
    with browsing.serving(f"sqlite:///{tmp_path}/test.db", tmp_path / "server.log", jobs_end=True) as started:
        yield started


@pytest.fixture(scope="package")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    """The app on a database that all journeys share: runs in every state, an experiment, and a run of hostile texts.

    They read it, mark single traces, or let the run that runs go on; one that changes more has a server of its own.
    """
    folder = tmp_path_factory.mktemp("seeded")
    seed_database(folder / "test.db", now=time.time())
    store = open_store(str(folder / "test.db"))
    compared.fill(store, replace(compared.TABLES, ranks=(32,)), n=6)
    hostile_texts.add_run(store)
    store.close()
    with browsing.serving(f"sqlite:///{folder}/test.db", folder / "server.log", jobs_end=True) as server:
        yield server


@pytest.fixture(scope="package")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    """The app on 8 arms with 5 seeds each, which journeys read, or rename and save views of."""
    folder = tmp_path_factory.mktemp("forty")
    store = open_store(str(folder / "test.db"))
    overlaid.fill(store)
    store.close()
    with browsing.serving(f"sqlite:///{folder}/test.db", folder / "server.log", jobs_end=True) as server:
        yield server


# For this package, not for the session: Playwright's loop would be in the way of other tests that use asyncio.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with browsing.browser() as opened:
        yield opened


LOOKS: dict[str, tuple[Literal["light", "dark"], int]] = {"wide-light": ("light", 1440), "narrow-dark": ("dark", 800)}
"""The two looks in which important journeys are made: colour scheme and width in pixels."""


@pytest.fixture(params=LOOKS)
def either_page(browser_page: Page, request: pytest.FixtureRequest) -> Page:
    """A fresh page in each of the looks."""
    scheme, width = LOOKS[request.param]
    browser_page.emulate_media(color_scheme=scheme)
    browser_page.set_viewport_size({"width": width, "height": 900})
    return browser_page


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
