"""One press of Back undoes one thing that somebody did, wherever they did it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from scripts import browsing
from scripts.browsing import goto, no_exception, wait_until_idle
from store.completions.rows import list_completions
from store.db.engine import open_store
from store.runs import list_runs
from tests.seeded import seed_database

pytestmark = pytest.mark.e2e
NUMBER = re.compile(r"^#\d+$")


def press(name: str) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.locator(f".st-key-{name}").get_by_role("button").first.click()

    return act


def choose(label: str, option: str | re.Pattern[str]) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.get_by_role("combobox", name=label).first.click()
        page.get_by_role("option").filter(has_text=option).first.click()

    return act


def follow(where: str) -> Callable[[Page], None]:
    return lambda page: page.locator(where).first.click()


def open_number(page: Page) -> None:
    page.get_by_text(NUMBER).first.click()


DEEDS = {
    "a trace of Find": ("find?run={run}", open_number),
    "the trace before": ("traces?completion={trace}", press("inspect-j")),
    "all groups from a trace": ("traces?completion={trace}", press("inspect-g")),
    "the next step from a trace": ("traces?completion={trace}&group=0", press("traces-Right")),
    "another run from a step": ("traces?run={run}&step=3&group=0", choose("Run", "shapes-sft")),
    "another run from a view": ("traces?run={run}&view=Predictions", choose("Run", "shapes-sft")),
    "another run from a cursor": ("run?run={run}&step=3", choose("Run", "shapes-sft")),
    "a run beside it": ("emergence?run={run}&step=3", choose("Overlay another run", "shapes-grpo-no-steps")),
    "another dataset": ("datasets?dataset=shapes-simple&split=train", choose("Split", "val")),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_one_press_of_back_undoes_it(seeded: browsing.Server, browser_page: Page, deed: str) -> None:
    page, (address, act) = browser_page, DEEDS[deed]
    store = open_store(seeded.database, readonly=True)
    run = next(row for row in list_runs(store) if row.name == "shapes-grpo")
    trace = list_completions(store, run.id, steps=(3, 3), limit=1)[0].id
    store.close()
    start = f"{seeded.url}/{address.format(run=run.uid, trace=trace)}"
    goto(page, start)
    before = page.evaluate("history.length")
    act(page)
    page.wait_for_url(lambda url: url != start)
    wait_until_idle(page)
    no_exception(page)
    assert page.evaluate("history.length") == before + 1
    page.go_back()
    wait_until_idle(page)
    expect(page).to_have_url(start)
    no_exception(page)


def test_a_proxy_may_show_the_dashboard_below_a_path(browser_page: Page, tmp_path: Path) -> None:
    """Pictures, charts, links and Back hold below a path, as `--base-path` names it."""
    seed_database(tmp_path / "test.db", now=time.time())
    with browsing.serving(f"sqlite:///{tmp_path}/test.db", tmp_path / "log", jobs_end=True, base="/my/runs") as server:
        page = browser_page
        goto(page, f"{server.url}/find")
        open_number(page)
        page.wait_for_url("**/my/runs/traces?**")
        wait_until_idle(page)
        picture = page.locator("[data-testid='stImage'] img").first
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        page.get_by_role("link", name="Run", exact=True).first.click()
        page.wait_for_url("**/my/runs/run**")
        expect(page.locator(".live-chart .nsewdrag").first).to_be_attached()
        no_exception(page)
