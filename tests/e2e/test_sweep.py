"""A sweep of forty runs in a real browser: four questions in few clicks, a brush, a saved view, and an edited table."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from scripts.browsing import Server, goto, no_exception, overflow, serving, wait_until_idle
from store.db.engine import open_store
from store.runs import list_run_heads
from store.views import list_views
from tests import overlaid

pytestmark = pytest.mark.e2e
ODD = f"grpo-cot-r{overlaid.FASTEST[1]}-s{overlaid.ODD_SEED}"
SLOW = 90_000
"""Milliseconds; the machine may be busy."""
MOST_CLICKS = 6
COUNT = "addEventListener('click', e => e.isTrusted && (sessionStorage.n = 1 + Number(sessionStorage.n || 0)), true)"


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """8 arms with 5 seeds each."""
    folder = tmp_path_factory.mktemp("forty")
    store = open_store(str(folder / "test.db"))
    overlaid.fill(store)
    store.close()
    with serving(f"sqlite:///{folder}/test.db", folder / "server.log", jobs_end=True) as started:
        yield started


@pytest.fixture
def counted(browser_page: Page) -> Page:
    """A page that counts what is clicked in it."""
    browser_page.add_init_script(COUNT)
    return browser_page


def clicks(page: Page) -> int:
    return int(page.evaluate("Number(sessionStorage.n || 0)"))


def open_from_menu(page: Page, name: str) -> None:
    page.get_by_test_id("stSidebar").get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible(timeout=SLOW)
    wait_until_idle(page)


def menu(page: Page, title: str, action: str) -> None:
    page.get_by_role("button", name=f"Menu of {title}").click()
    page.get_by_text(action, exact=True).click()
    wait_until_idle(page)


def cells(page: Page) -> Locator:
    """What the first table says, cell by cell, as a screen reader hears it."""
    found = page.get_by_test_id("stDataFrame").first.locator("canvas [role='gridcell']")
    expect(found.first).to_be_attached(timeout=SLOW)
    return found


def test_which_arm_learns_fastest(forty: Server, counted: Page) -> None:
    goto(counted, forty.url)
    open_from_menu(counted, "Curves")
    menu(counted, "Reward", "Numbers, or not")
    expect(cells(counted).first).to_have_text(overlaid.FASTEST[0], timeout=SLOW)
    assert clicks(counted) <= MOST_CLICKS


def test_does_rank_matter(forty: Server, counted: Page) -> None:
    """Within an arm, or over all of them: the means of both ranks with their intervals."""
    goto(counted, forty.url)
    open_from_menu(counted, "Sweep")
    counted.get_by_role("radio", name="Scatter").click()
    wait_until_idle(counted)
    counted.get_by_role("combobox", name="Horizontal").click()
    counted.get_by_role("option", name="lora.rank").click()
    expect(counted.get_by_role("figure", name=re.compile("40 runs over lora.rank"))).to_be_visible(timeout=SLOW)
    assert clicks(counted) <= MOST_CLICKS


def test_which_seed_is_the_odd_one_out_and_what_did_it_say(forty: Server, counted: Page) -> None:
    goto(counted, forty.url)
    open_from_menu(counted, "Curves")
    counted.get_by_role("combobox", name="Group by").click()
    counted.get_by_role("option", name="lora.rank").click()
    counted.keyboard.press("Escape")
    wait_until_idle(counted)
    menu(counted, "Reward", "Numbers, or not")
    expect(cells(counted).filter(has_text=ODD).first).to_be_attached(timeout=SLOW)
    link = next(word for word in cells(counted).all_inner_texts() if word.startswith("traces?"))
    assert clicks(counted) < MOST_CLICKS
    goto(counted, f"{forty.url}/{link}")  # the last click: the table is painted, its links are no elements
    assert f"step={overlaid.BREAKS_AWAY + 1}" in counted.url
    expect(counted.locator(".tv").first).to_be_visible(timeout=SLOW)


def test_which_setting_would_you_take(forty: Server, counted: Page) -> None:
    goto(counted, forty.url)
    open_from_menu(counted, "Sweep")
    best = counted.locator(".st-key-best_setting")
    expect(best).to_contain_text(f"{overlaid.FASTEST[0]} · rank {overlaid.FASTEST[1]}", timeout=SLOW)
    expect(best).to_contain_text("95 % interval")
    expect(best).to_contain_text("over 5 seeds")
    assert clicks(counted) == 1


def test_a_box_on_an_axis_selects_the_runs_that_pass_it(forty: Server, browser_page: Page) -> None:
    page = browser_page
    goto(page, f"{forty.url}/sweep")
    plot = page.get_by_role("figure", name=re.compile("40 runs across 2 settings")).locator(".nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    # Three axes from -0.45 to 2.55: the second is at 1.45 of 3, and its upper value near the top.
    x, y = box["x"] + box["width"] * 1.45 / 3, box["y"] + box["height"] * (1.16 - 1.0) / 1.22
    page.mouse.move(x - 25, y - 20)
    page.mouse.down()
    page.mouse.move(x + 25, y + 20, steps=8)
    page.mouse.up()
    expect(page.get_by_text("20 runs selected")).to_be_visible(timeout=SLOW)
    link = page.locator(".st-key-sweep_selected").get_by_role("link", name="Curves")
    link.click()
    expect(page.get_by_text("20 runs, chosen.")).to_be_visible(timeout=SLOW)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 800])
def test_the_page_fits_and_every_control_has_a_name(scheme: str, width: int, forty: Server, browser_page: Page) -> None:
    page = browser_page
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 1000})
    for picture in ("Parallel axes", "Scatter", "Heat map"):
        goto(page, f"{forty.url}/sweep?picture={picture}&keep=lora.rank 64")
        expect(page.get_by_text("20 runs selected")).to_be_visible(timeout=SLOW)
        no_exception(page)
        assert overflow(page) == 0
    nameless = page.locator("[data-testid='stMain'] button").evaluate_all(
        "all => all.filter(b => b.offsetParent && !(b.innerText || b.ariaLabel || b.title)).map(b => b.outerHTML)"
    )
    assert nameless == []


def test_a_view_is_saved_and_opened_by_somebody_else(forty: Server, browser_page: Page) -> None:
    page = browser_page
    goto(page, f"{forty.url}/curves?group=lora.rank&charts=KL")
    page.get_by_role("button", name="Views").click()
    page.get_by_role("textbox", name="Name of this view").fill("KL by rank")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Views (1)")).to_be_visible(timeout=SLOW)
    store = open_store(forty.database, readonly=True)
    assert list_views(store, "curves") == {"KL by rank": "group=lora.rank&charts=KL"}
    store.close()
    other = page.context.browser.new_page() if page.context.browser else page
    goto(other, f"{forty.url}/curves")
    other.get_by_role("button", name="Views (1)").click()
    other.get_by_role("link", name="KL by rank").click()
    other.wait_for_url(re.compile("group=lora.rank"), timeout=SLOW)
    expect(other.get_by_role("checkbox", name="Show rank 16")).to_be_visible(timeout=SLOW)
    other.close()


def test_a_name_is_changed_in_the_table_by_the_keyboard(forty: Server, browser_page: Page) -> None:
    page = browser_page
    goto(page, f"{forty.url}/?table=Values&columns=note&find=random-reward-r16-s4")
    table = page.get_by_test_id("stDataFrame").first
    expect(cells(page).nth(1)).to_have_text("grpo-random-reward-r16-s4", timeout=SLOW)
    table.locator("canvas").first.click(position={"x": 120, "y": 52})
    page.keyboard.press("Enter")
    page.keyboard.press("Control+a")
    page.keyboard.type("chance, seed 4")
    page.keyboard.press("Enter")
    expect(page.get_by_text("chance, seed 4 is changed.").or_(page.get_by_text("is changed."))).to_be_visible(
        timeout=SLOW
    )
    store = open_store(forty.database, readonly=True)
    assert "chance, seed 4" in {run.name for run in list_run_heads(store)}
    store.close()


def test_the_difference_of_two_runs_says_what_differs_and_where_they_part(forty: Server, browser_page: Page) -> None:
    page = browser_page
    store = open_store(forty.database, readonly=True)
    uid = {run.name: run.uid for run in list_run_heads(store)}
    store.close()
    pair = f"{uid['grpo-cot-r64-s0']},{uid['grpo-random-reward-r64-s0']}"
    goto(page, f"{forty.url}/curves?runs={pair}")
    page.get_by_text("What differs between the two runs").click()
    page.wait_for_url(re.compile("difference=true"), timeout=SLOW)
    tables = page.get_by_test_id("stDataFrame")
    expect(tables.nth(1)).to_be_visible(timeout=SLOW)
    parted = tables.nth(1).locator("canvas [role='gridcell']")
    expect(parted.first).to_have_text("Reward", timeout=SLOW)
    assert re.fullmatch(r"\d+", parted.nth(1).inner_text()), "the reward of one rises, that of the other does not"
