"""Many runs as one picture, in a real browser: what a researcher asks of forty runs, in a few clicks each.

The questions are asked wide and light, then narrow and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from scripts.browsing import Server, click_link, goto, nameless, no_exception, overflow, wait_until_idle
from tests import overlaid

pytestmark = pytest.mark.e2e
ODD = f"grpo-cot-r{overlaid.FASTEST[1]}-s{overlaid.ODD_SEED}"
MOST_CLICKS = 6
"""Within which a question must be answered, from the first page."""


def chart(page: Page, title: str) -> Locator:
    found = page.get_by_role("figure", name=re.compile(f"^{re.escape(title)} over"))
    expect(found.locator(".main-svg").first).to_be_attached()
    return found


def menu(page: Page, title: str, action: str) -> None:
    page.get_by_role("button", name=f"Menu of {title}").click()
    page.get_by_text(action, exact=True).click()
    wait_until_idle(page)


def shown(plot: Locator) -> int:
    """How many curves of runs or groups are visible."""
    return int(plot.evaluate("e => new Set(e.data.filter(t => t.visible !== false).map(t => t.meta?.key)).size"))


class Clicks:
    """Counts what a person presses in a page and those that it opens; typing is free."""

    def __init__(self, page: Page) -> None:
        self.count = 0
        page.context.expose_function("vr1zPressed", self._pressed)
        page.context.add_init_script("addEventListener('pointerdown', () => window.vr1zPressed(), true)")

    def _pressed(self) -> None:
        self.count += 1


@pytest.fixture
def clicks(either_page: Page) -> Iterator[Clicks]:
    counted = Clicks(either_page)
    yield counted
    assert 0 < counted.count <= MOST_CLICKS


def open_from_menu(page: Page, name: str) -> None:
    page.get_by_test_id("stSidebar").get_by_role("link", name=name, exact=True).click()
    page.wait_for_url(re.compile(f"/{name.lower()}"))
    wait_until_idle(page)


def group_by(page: Page, field: str) -> None:
    page.get_by_role("combobox", name="Group by").click()
    page.get_by_role("option", name=field).click()
    page.keyboard.press("Escape")
    wait_until_idle(page)


def cells_of(table: Locator) -> list[str]:
    """The texts of a table's cells, once it has some."""
    cells = table.locator("canvas [role='gridcell']")
    expect(cells.first).to_be_attached()
    return cells.all_inner_texts()


def test_which_arm_learns_fastest(forty: Server, either_page: Page, clicks: Clicks) -> None:
    page = either_page
    goto(page, forty.url)
    open_from_menu(page, "Curves")
    menu(page, "Reward", "Toggle table")
    assert cells_of(page.get_by_test_id("stDataFrame"))[0] == overlaid.FASTEST[0]


def test_does_rank_matter(forty: Server, either_page: Page, clicks: Clicks) -> None:
    page = either_page
    goto(page, forty.url)
    open_from_menu(page, "Curves")
    expect(page.get_by_text("40 runs, of the newest experiment “evidence”.")).to_be_visible()
    group_by(page, "lora.rank")
    expect(page.get_by_role("checkbox", name="Show GRPO CoT · rank 16")).to_be_visible()
    reward = chart(page, "Reward")
    expect(reward).to_have_attribute("aria-label", re.compile("8 curves"))
    assert shown(reward) == 8


def test_which_seed_is_the_odd_one_out_and_what_did_it_say(forty: Server, either_page: Page, clicks: Clicks) -> None:
    page = either_page
    goto(page, forty.url)
    open_from_menu(page, "Curves")
    group_by(page, "lora.rank")
    menu(page, "Reward", "Toggle table")
    table = page.get_by_test_id("stDataFrame")
    words = cells_of(table)
    assert words[0] == " · rank ".join(map(str, overlaid.FASTEST)), "the fastest comes first"
    assert ODD in words, "and its odd seed is named"
    with page.expect_popup() as opened:
        click_link(page, table, row=0)
    traces = opened.value
    expect(traces.locator(".tv").first).to_be_visible()
    assert f"step={overlaid.BREAKS_AWAY + 1}" in traces.url
    traces.close()


def test_which_setting_of_the_sweep_would_you_take(forty: Server, either_page: Page, clicks: Clicks) -> None:
    page = either_page
    goto(page, forty.url)
    open_from_menu(page, "Sweep")
    best = page.locator(".st-key-best_setting")
    expect(best).to_contain_text("GRPO CoT · rank")
    expect(best).to_contain_text("over 5 seeds")


def test_one_legend_serves_all_charts_and_the_address_keeps_it(forty: Server, either_page: Page) -> None:
    page = either_page
    goto(page, f"{forty.url}/curves?group=-&charts=Reward,KL")
    both = [chart(page, title) for title in ("Reward", "KL to the starting policy")]
    only = page.get_by_role("button", name=f"Show only {ODD}, or all again")
    only.focus()
    page.keyboard.press("Enter")
    for plot in both:
        page.wait_for_function("e => e.data.filter(t => t.visible !== false).length === 1", arg=plot.element_handle())
    page.wait_for_url(re.compile("only="))
    page.reload()
    wait_until_idle(page)
    assert [shown(chart(page, title)) for title in ("Reward", "KL to the starting policy")] == [1, 1]
    expect(page.get_by_text("1 of 40 shown")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    expect(page.get_by_text("40 shown", exact=True)).to_be_visible()
    page.wait_for_url(re.compile("^(?!.*only=)"))


def test_hovering_a_run_raises_it_in_all_charts_and_a_click_opens_its_traces(forty: Server, either_page: Page) -> None:
    page = either_page
    goto(page, f"{forty.url}/curves?group=-&charts=Reward,KL")
    first, second = (chart(page, title) for title in ("Reward", "KL to the starting policy"))
    box = first.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.5)
    for plot in (first, second):
        expect(plot.locator(".live-chart-chosen").first).to_be_attached()
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url(re.compile(r"/traces\?run=\w+&step=\d+"))


def test_a_zoom_is_asked_for_again_and_shared_by_all_charts(forty: Server, browser_page: Page) -> None:
    page = browser_page
    goto(page, f"{forty.url}/curves?group=-&charts=Reward,KL")
    first, second = (chart(page, title) for title in ("Reward", "KL to the starting policy"))
    box = first.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 24, steps=6)
    page.mouse.up()
    page.wait_for_url(re.compile("zoom="))
    in_range = "e => e.layout.xaxis.range[0] > 50 && e.layout.xaxis.range[1] < 100"
    for plot in (first, second):
        page.wait_for_function(in_range, arg=plot.element_handle())
    points = "e => Math.max(...e.calcdata[0].map(p => p.x)) < 110"
    page.wait_for_function(points, arg=second.element_handle())
    first.locator(".nsewdrag").first.dblclick()
    page.wait_for_url(re.compile("^(?!.*zoom=)"))
    assert "/curves" in page.url, "a double-click is no click"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 800])
def test_the_page_fits_and_every_control_has_a_name(scheme: str, width: int, forty: Server, browser_page: Page) -> None:
    page = browser_page
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 1000})
    goto(page, f"{forty.url}/curves?group=arm&singles=true&numbers=Reward&wide=Reward")
    chart(page, "Reward")
    no_exception(page)
    assert overflow(page) == 0
    assert nameless(page) == []


def test_which_setting_would_you_take(forty: Server, either_page: Page, clicks: Clicks) -> None:
    page = either_page
    goto(page, f"{forty.url}/?table=Values&columns=val/accuracy:highest&sort=↓ val/accuracy:highest")
    page.get_by_role("combobox", name="Group rows by").click()
    page.get_by_role("option", name="all settings but the seed").click()
    page.keyboard.press("Escape")
    page.wait_for_url(re.compile("group="))
    first = page.locator("canvas [role='gridcell']").first
    expect(first).to_have_text("rank 64")
