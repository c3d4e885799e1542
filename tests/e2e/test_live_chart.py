"""A live chart in a real browser: what a user did to it stays while its data change."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from scripts.browsing import Server, click_chart, goto, wait_until
from store.db.engine import Store, open_store
from store.db.rows import JobRef, RunDetail, RunRef
from store.runs import get_run, list_runs
from tests import seeded

pytestmark = pytest.mark.e2e
PLOT = ".js-plotly-plot"


def test_a_chart_is_saved_as_png_and_as_svg_on_white_paper(seeded: Server, browser_page: Page, tmp_path: Path) -> None:
    page = browser_page
    goto(page, f"{seeded.url}/compare")
    chart = page.get_by_role("figure", name="Held-out accuracy over training examples seen")
    expect(chart.locator(".main-svg").first).to_be_attached()
    chart.scroll_into_view_if_needed()
    colour = "plot => plot._fullLayout.font.color"
    light = chart.evaluate(colour)
    for is_dark in (False, True):
        if is_dark:
            page.emulate_media(color_scheme="dark")
            wait_until(page, lambda: chart.evaluate(colour) != light)
        saved = {form: save(page, chart, form, tmp_path) for form in ("PNG", "SVG")}
        assert [path.name for path in saved.values()] == [
            "compare-matched-examples.png",
            "compare-matched-examples.svg",
        ]
        with Image.open(saved["PNG"]) as picture:
            assert picture.format == "PNG" and picture.width > 1500
            assert picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
        drawing = ElementTree.parse(saved["SVG"]).getroot()
        assert drawing.tag.endswith("svg")
        assert "training examples seen" in saved["SVG"].read_text() and "SFT CoT r32" in saved["SVG"].read_text()


def save(page: Page, chart: Locator, form: str, folder: Path) -> Path:
    chart.hover()
    with page.expect_download() as download:
        chart.locator(f"[data-title='Save as {form}']").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


class Live:
    """The running run of a seeded database, which goes on when it is told to."""

    def __init__(self, store: Store) -> None:
        self.store = store
        row = next(run for run in list_runs(store) if run.status == "running")
        self.run: RunDetail = get_run(store, row.id)
        assert self.run.job is not None
        self.job = self.run.job
        self.train = seeded.examples(store, "train", 4)

    def advance(self, steps: int) -> None:
        settings = seeded.config("shapes-grpo-no-steps")
        clock = seeded.Clock(time.time())
        for _ in range(steps):
            step = get_run(self.store, self.run.id).step + 1
            seeded.advance_step(
                self.store,
                clock,
                RunRef(self.run.id, self.run.uid),
                JobRef(self.job.id, self.job.uid),
                settings,
                self.train,
                step=step,
                tokens=1500.0 * step,
                pace=1.4,
            )


@pytest.fixture
def live(seeded: Server) -> Iterator[Live]:
    store = open_store(seeded.database)
    yield Live(store)
    store.close()


@pytest.fixture
def reward(seeded: Server, live: Live, browser_page: Page) -> Locator:
    """The reward chart on the run's page, drawn."""
    browser_page.goto(f"{seeded.url}/run?run={live.run.uid}")
    chart = browser_page.locator(".st-key-chart_reward").locator(PLOT)
    expect(chart.locator(".legend")).to_be_visible()
    return chart


def points(chart: Locator) -> int:
    """Values of the smoothed reward curve."""
    return int(chart.evaluate("plot => plot._fullData.find(trace => trace.name === 'reward').x.length"))


def x_range(chart: Locator) -> list[float]:
    found = chart.evaluate("plot => [...plot.layout.xaxis.range]")
    return [float(end) for end in found]


def zoom(page: Page, chart: Locator) -> None:
    box = chart.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.3, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=8)
    page.mouse.up()


def test_zoom_and_legend_choices_survive_refreshes_while_data_change(
    live: Live, reward: Locator, browser_page: Page
) -> None:
    whole = x_range(reward)
    zoom(browser_page, reward)
    wait_until(browser_page, lambda: x_range(reward)[1] < 0.8 * whole[1])
    zoomed = x_range(reward)
    reward.locator(".legendtoggle").nth(1).click()
    hidden = "plot => plot._fullData.find(trace => trace.name === 'reward (probe)').visible"
    wait_until(browser_page, lambda: reward.evaluate(hidden) == "legendonly")
    reward.evaluate("plot => { plot.dataset.mark = 'same node' }")
    for _ in range(3):
        live.advance(2)
        step = get_run(live.store, live.run.id).step
        expect(browser_page.get_by_test_id("stMain")).to_contain_text(re.compile(rf"step {step}\b"))
    assert x_range(reward) == pytest.approx(zoomed, rel=1e-4)  # as the address writes it
    assert reward.evaluate(hidden) == "legendonly"
    browser_page.get_by_role("button", name="Zoom out").click()
    wait_until(browser_page, lambda: points(reward) == get_run(live.store, live.run.id).step)
    assert reward.evaluate(hidden) == "legendonly"
    assert reward.evaluate("plot => plot.dataset.mark") == "same node"


def test_many_charts_fetch_one_library_whose_loader_takes_no_place(reward: Locator, browser_page: Page) -> None:
    expect(browser_page.locator(PLOT).nth(3)).to_be_attached()
    expect(browser_page.locator("script[src*='plotly.min.js']")).to_have_count(1)
    expect(browser_page.locator(".st-key-plotly_library")).to_be_hidden()


def test_an_untouched_chart_follows_its_data(live: Live, reward: Locator, browser_page: Page) -> None:
    end, before = x_range(reward)[1], points(reward)
    live.advance(20)
    wait_until(browser_page, lambda: points(reward) == before + 20)
    assert x_range(reward)[1] > end


def test_a_click_sets_the_step_that_the_traces_page_opens(live: Live, reward: Locator, browser_page: Page) -> None:
    click_chart(browser_page, reward.locator(".nsewdrag").first)
    expect(browser_page.get_by_text("Cursor at step")).to_be_visible()
    step = int(browser_page.evaluate("new URLSearchParams(location.search).get('step')"))
    assert abs(step - live.run.step / 2) < 10
    browser_page.get_by_role("link", name="Open its groups").click()
    browser_page.wait_for_url(f"**/traces?**step={step}**")
    assert f"run={live.run.uid}" in browser_page.url


def test_charts_follow_the_theme_and_say_what_they_show(reward: Locator, browser_page: Page) -> None:
    colour = "plot => plot._fullLayout.font.color"
    light = reward.evaluate(colour)
    browser_page.emulate_media(color_scheme="dark")
    wait_until(browser_page, lambda: reward.evaluate(colour) != light)
    expect(reward).to_have_attribute("aria-label", re.compile(r"^Reward: reward [\d.]+ at step 1, [\d.]+ at step \d+"))
