"""No page breaks a rule of WCAG 2.2 A or AA that a machine can check, in the light and in the dark theme."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from app import sign_in_page
from app.access import SignIn
from app.report import document
from scripts.browsing import Server, goto, no_exception
from store.db.engine import open_store
from store.runs import get_run, list_run_heads
from tests.e2e.accessibility import audit
from tests.e2e.accessibility.audit import COLOURS, LEFT, Finding, Left
from tests.visited import PAGES, address_of

pytestmark = pytest.mark.e2e

GRPO, SFT, COLLAPSED = "f20bd7ea5c", "f9846e00a0", "99d6034023"
"""Recorded runs, which have what the made ones lack."""
ADDRESSES = (
    "",
    f"run?run={GRPO}",
    "run?tab=Machine",
    "run?run=RUNNING",
    "run?run=WAITING",
    "run?run=FAILED",
    f"traces?run={GRPO}",
    "traces?view=Predictions&columns=true",
    "traces?completion=1",
    f"find?run={GRPO}",
    "rewards",
    "rewards?view=A+whole+run",
    f"emergence?run={COLLAPSED}&tour=7",
    "emergence?run=ONE&with=OTHER",
    "launch",
    "curves?runs=ONE,OTHER&numbers=Reward&wide=Reward",
    "curves?group=arm",
    f"compare?runs={GRPO},{SFT}",
    "compare?experiment=OPEN",
    "sweep",
    "sweep?picture=Scatter",
    "sweep?picture=Heat+map",
    f"drift?runs={SFT},{GRPO}",
    f"drift?runs={SFT},{GRPO}&view=Over+training",
    f"drift?runs={SFT},{GRPO}&view=Map",
    f"drift?runs={SFT},{GRPO}&view=What+changed",
    "datasets",
    "datasets?view=Overlap",
    "datasets?view=Seen+by+base+models",
    "system",
    "tour",
    "record",
)
"""Every page, in each state that draws something of its own."""


def views(page: Page) -> None:
    page.get_by_role("button", name="Views").click()
    expect(page.get_by_test_id("stPopoverBody")).to_be_visible()


def sheet(page: Page) -> None:
    page.get_by_test_id("stSidebar").get_by_role("button", name="Keys").click()
    expect(page.get_by_role("dialog").get_by_text("show this list")).to_be_visible()


def values(page: Page) -> None:
    page.get_by_role("button", name="Show or hide the values as a table").first.click(force=True)
    expect(page.get_by_role("region", name="Values of").first).to_be_visible()


OPENED: tuple[tuple[str, Callable[[Page], None]], ...] = (("", views), ("traces", sheet), (f"run?run={GRPO}", values))
"""What is opened over a page, or in it."""


def both(page: Page, address: str) -> tuple[list[Finding], set[Left]]:
    """Return the findings on the page as it stands; in the dark theme only those that depend on colours."""
    audit.wear(page, "light")
    light, used = audit.audit(page, address, "light")
    audit.wear(page, "dark")
    if page.get_by_test_id("stPlotlyChart").count():  # the server chooses the colours of its curves
        goto(page, page.url)
    dark, also = audit.audit(page, address, "dark", only=COLOURS)
    return [*light, *dark], used | also


def test_every_page_is_looked_at() -> None:
    assert {each.partition("?")[0] for each in ADDRESSES} == {each.partition("?")[0] for each in PAGES}


def test_no_page_breaks_a_rule(filled: Server, calm: Page) -> None:
    """And no entry of LEFT outlives what it is for."""
    found: list[Finding] = []
    used: set[Left] = set()
    opened = [*((address, None) for address in ADDRESSES), *OPENED]
    for address, act in opened:
        calm.emulate_media(color_scheme="light")
        goto(calm, address_of(filled, address))
        if act is None:
            no_exception(calm)
        else:
            act(calm)
        own, needed = both(calm, address)
        found += own
        used |= needed
    assert not found, "\n\n".join(map(str, found))
    assert used == set(LEFT)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_without_scripts_breaks_a_rule(filled: Server, calm: Page, theme: audit.Theme) -> None:
    """The page for signing in and out, and the file of two runs."""
    store = open_store(filled.database)
    uids = {run.uid: run.id for run in list_run_heads(store)}
    file = document.document(store, [get_run(store, uids[uid]) for uid in (GRPO, SFT)])
    store.close()
    sign_in = SignIn("https://runs.example.org/oauth2callback", "", frozenset({"a@example.org"}), frozenset())
    strangers = [sign_in_page.page(sign_in, user) for user in ({}, {"email": "b@example.org", "email_verified": True})]
    calm.emulate_media(color_scheme=theme)
    for name, text in (("report", file), *(("sign-in", bytes(each.body).decode()) for each in strangers)):
        calm.goto("about:blank")
        calm.set_content(text)
        found, used = audit.audit(calm, name, theme)
        assert not found, "\n\n".join(map(str, found))
        assert not used
