"""What somebody does with the dashboard, from the first visit to a resumed run. Each docstring is the promise."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from scripts import browsing
from scripts.browsing import click_chart, goto, no_exception, overflow, wait_until_idle
from store.db.engine import open_store
from store.events import list_events
from store.metrics import read_clock
from store.runs import list_runs
from tests.compared import compare_database

pytestmark = pytest.mark.e2e

PATIENCE = 240
"""Seconds in which a run loads its model, looks at the base and makes its first steps, on a busy machine."""
SMALL = {
    "name": "journey",
    "optimization.batch_size": "8",
    "grpo.group_size": "4",
    "max_tokens": "24",
    "evaluation.probe_examples": "2",
    "evaluation.probe_samples": "0",
    "evaluation.encoder": "",
    "data.train_examples": "16",
    "data.val_examples": "4",
    "data.test_examples": "0",
}
"""A GRPO run of many small steps, so that it can be stopped in the middle."""


def uid_of(server: browsing.Server, name: str) -> str:
    store = open_store(server.database, readonly=True)
    uids = [run.uid for run in list_runs(store) if run.name == name]
    store.close()
    return uids[0]


def set_field(page: Page, path: str, value: str) -> None:
    """Types into the launch form's field of a RunConfig path."""
    field = page.locator(f"[class*='st-key-launch-'][class*='-{path.replace('.', '-')}'] input")
    field.fill(value)
    field.press("Enter")
    wait_until_idle(page)


def step_shown(page: Page) -> int:
    """The step of the run, `step 1,234 of 2,000`, in its progress line or after how it ended."""
    text = page.get_by_test_id("stMain").get_by_text(re.compile(r"(^|· )step [\d,]+ of")).first.inner_text()
    return int(text.rpartition("step ")[2].split()[0].replace(",", ""))


def wait_for_step(page: Page, step: int) -> None:
    """Watches the page, which nobody reloads, until it shows a step."""
    deadline = time.monotonic() + PATIENCE
    while step_shown(page) < step:
        assert time.monotonic() < deadline, f"step {step} did not come:\n{page.get_by_test_id('stMain').inner_text()}"
        page.wait_for_timeout(500)


def wait_for_state(page: Page, state: str) -> None:
    badge = page.get_by_test_id("stMain").locator(".stMarkdownBadge").first
    expect(badge).to_contain_text(state, timeout=1000 * PATIENCE)


def test_first_visit_says_what_this_is_and_starts_the_demo(server: browsing.Server, browser_page: Page) -> None:
    """Somebody without runs reads three sentences, presses Start the demo, and has both demo runs."""
    goto(browser_page, server.url)
    card = browser_page.locator(".st-key-welcome")
    expect(card.get_by_role("button", name="Start the demo")).to_be_visible()
    text = card.get_by_test_id("stMarkdown").all_inner_texts()
    assert len(re.findall(r"\.(?:\s|$)", " ".join(text))) == 3
    card.get_by_role("button", name="Start the demo").click()
    for name in ("demo-grpo", "demo-sft"):
        expect(browser_page.get_by_text(name).first).to_be_visible()
    wait_until_idle(browser_page)
    no_exception(browser_page)


def test_a_run_is_launched_watched_stopped_and_resumed(server: browsing.Server, browser_page: Page) -> None:
    """A run set up in the form moves on the page that nobody reloads, stops with a checkpoint, and goes on from it."""
    page = browser_page
    goto(page, f"{server.url}/launch")
    for section in ("Optimization", "Generation-and-GRPO", "Evaluation", "Data"):
        page.locator(f".st-key-section-{section} summary").click()
    for path, value in SMALL.items():
        set_field(page, path, value)
    page.locator(".st-key-launch_side").get_by_role("button", name="Launch", exact=False).click()
    page.wait_for_url("**/run?run=*")
    expect(page.get_by_role("heading", name="journey")).to_be_visible()
    wait_for_step(page, 2)
    wait_for_state(page, "running")

    page.locator(".st-key-run_stop").get_by_role("button").click()
    wait_for_state(page, "stopped")
    store = open_store(server.database, readonly=True)
    stopped_at = list_runs(store)[0].step
    assert 2 <= stopped_at < 170

    page.locator(".st-key-run_resume").get_by_role("button").click()
    wait_for_step(page, stopped_at + 1)
    wait_for_state(page, "running")
    no_exception(page)
    (run,) = list_runs(store)
    steps = list(read_clock(store, run.id).step)
    kinds = [event.kind for event in list_events(store, run.id)]
    store.close()
    assert steps == list(range(1, len(steps) + 1))
    assert "resumed" in kinds


def test_a_trace_is_opened_from_a_chart(seeded: browsing.Server, browser_page: Page) -> None:
    """A click on a curve leads to the texts of that step, with their image, question and answers."""
    page = browser_page
    goto(page, f"{seeded.url}/run?run={uid_of(seeded, 'shapes-grpo')}")
    click_chart(page, page.locator(".st-key-chart_reward .nsewdrag").first)
    page.get_by_role("link", name="Open its groups").click()
    page.wait_for_url("**/traces?**")
    wait_until_idle(page)
    no_exception(page)
    expect(page.get_by_text(re.compile(r"How many .*\?")).first).to_be_visible()
    expect(page.get_by_text(re.compile(r"true count \d")).first).to_be_visible()
    expect(page.get_by_text(re.compile(r"advantage|reward")).first).to_be_visible()
    image = page.locator("img.tv-image").first
    expect(image).to_be_visible()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


OF_ALL = (
    "",
    "tour",
    "record",
    "curves",
    "sweep",
    "launch",
    "compare",
    "datasets",
    "datasets?view=Overlap",
    "datasets?view=Seen+by+base+models",
    "system",
)
OF_RUNS = ("run", "traces", "find", "rewards", "emergence", "compare", "drift")


@pytest.mark.parametrize("run", ["", "shapes-grpo", "shapes-sft", "smolvlm-256m-*r64*"])
def test_every_page_fits_its_window(seeded: browsing.Server, browser_page: Page, run: str) -> None:
    """Every page shows without an error and without a horizontal scroll bar, wide and narrow, light and dark."""
    query = f"?run={uid_of(seeded, run)}" if run else ""
    addresses = [f"/{page}{query}" for page in (OF_RUNS if run else OF_ALL)]
    for address in addresses:
        browser_page.set_viewport_size({"width": 1440, "height": 900})
        browser_page.emulate_media(color_scheme="light")
        goto(browser_page, seeded.url + address)
        for width, scheme in ((1440, "light"), (1440, "dark"), (800, "dark"), (800, "light")):
            browser_page.set_viewport_size({"width": width, "height": 900})
            browser_page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            wait_until_idle(browser_page)
            no_exception(browser_page)
            assert overflow(browser_page) <= 0, (address, width, scheme)


def test_the_browser_pages_are_all_visited() -> None:
    found = {path.stem for path in (Path(__file__).parents[2] / "pages").glob("*.py")}
    assert found - {"runs"} == {page.partition("?")[0] for page in (*OF_ALL, *OF_RUNS) if page}


def test_two_methods_are_compared_down_to_one_example(
    browser_page: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """From the runs table to the tables, to the pictures that decide them, to one trace; the report opens offline."""
    folder = tmp_path_factory.mktemp("compared")
    compare_database(folder / "test.db", n=24)
    with browsing.serving(f"sqlite:///{folder}/test.db", folder / "server.log", jobs_end=True) as server:
        goto(browser_page, f"{server.url}/compare")
        no_exception(browser_page)
        expect(browser_page.locator("tr.measured")).to_have_count(11 + 12)
        expect(browser_page.locator("tr.reported")).to_have_count(13)
        assert overflow(browser_page) == 0
        browser_page.set_viewport_size({"width": 800, "height": 900})
        wait_until_idle(browser_page)
        assert overflow(browser_page) == 0
        with browser_page.expect_download() as download:
            browser_page.get_by_role("button", name="HTML report").click()
        report = folder / "report.html"
        download.value.save_as(report)
        browser_page.locator(".duel-card a").first.click()
        browser_page.wait_for_url("**/traces?**prediction=**")
        wait_until_idle(browser_page)
        no_exception(browser_page)
        expect(browser_page.get_by_text("Predictions").first).to_be_visible()
        goto_file(browser_page, report)


def goto_file(page: Page, path: Path) -> None:
    """The exported page draws its figures with nothing but itself."""
    page.context.set_offline(True)
    page.goto(path.as_uri())
    expect(page.locator("tr.reported")).to_have_count(13)
    expect(page.locator(".plotly-graph-div .main-svg").first).to_be_visible()
    page.context.set_offline(False)
