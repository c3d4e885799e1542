"""Whoever has no mouse reaches all that can be clicked in our own HTML, sees the focus, and is never trapped."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from scripts.browsing import Server, goto, wait_until_idle
from tests.e2e.accessibility.audit import DRAWN
from tests.e2e.accessibility.test_rules import GRPO, SFT
from tests.visited import address_of

pytestmark = pytest.mark.e2e

WALK, MOTION = (Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8") for name in ("keyboard", "motion"))
PAGES = (
    f"run?run={GRPO}",
    "traces?completion=1",
    f"find?run={GRPO}",
    f"emergence?run={GRPO}",
    "curves?runs=ONE,OTHER",
    "sweep",
    f"compare?runs={GRPO},{SFT}",
    f"drift?runs={SFT},{GRPO}",
    f"drift?runs={SFT},{GRPO}&view=What+changed",
    "datasets",
    "launch",
)
MOST = 1000
"""Presses of Tab after which the focus must have come round."""


@pytest.mark.parametrize("address", PAGES)
def test_tab_reaches_everything_and_comes_round(filled: Server, calm: Page, address: str) -> None:
    goto(calm, address_of(filled, address))
    calm.wait_for_function(DRAWN)
    calm.evaluate(WALK)
    for _ in range(MOST // 20):
        for _ in range(20):
            calm.keyboard.press("Tab")
        if calm.evaluate("vr1zWalk.rounds") > 1:
            break
    told = calm.evaluate("vr1zWalk.tell()")
    assert told["rounds"] > 1, f"the focus stays among {told['last']}"
    assert told["missed"] == [], "not reached"
    assert told["unseen"] == [], "the focus does not show"
    assert told["reached"] > 0


def test_a_chart_is_zoomed_moved_and_read_by_keyboard(filled: Server, calm: Page) -> None:
    """And a step that is chosen in its table is the page's, as if its point had been clicked."""
    goto(calm, f"{filled.url}/run?run={GRPO}")
    calm.wait_for_function(DRAWN)
    chart = calm.get_by_role("figure", name="Reward").first
    closer = chart.get_by_role("button", name="Show half the range")
    closer.focus()
    expect(chart.locator(".modebar")).to_have_css("opacity", "1")
    closer.press("Enter")
    calm.wait_for_url("**zoom=**")
    before = calm.url
    wait_until_idle(calm)
    chart.get_by_role("button", name="Move right").press("Enter")
    calm.wait_for_url(lambda url: "zoom=" in url and url != before)
    wait_until_idle(calm)
    chart.get_by_role("button", name="Show or hide the values as a table").press("Enter")
    table = calm.get_by_role("region", name="Values of").first
    expect(table.get_by_role("columnheader").first).to_have_text("step")
    row = table.get_by_role("row").nth(3)
    step = row.get_by_role("rowheader").inner_text()
    assert len(row.get_by_role("cell").all_inner_texts()) >= 1
    row.get_by_role("button").press("Enter")
    calm.wait_for_url(f"**step={step.replace(',', '')}**")


def test_shortcuts_of_single_keys_can_be_turned_off(filled: Server, calm: Page) -> None:
    """The browser remembers it."""
    sheet = calm.get_by_role("dialog")
    goto(calm, f"{filled.url}/system")
    calm.keyboard.press("?")
    switch = sheet.get_by_role("switch", name="Single-key shortcuts")
    switch.focus()
    switch.press("Space")
    expect(sheet).to_have_count(0)
    wait_until_idle(calm)
    goto(calm, f"{filled.url}/record")
    wait_until_idle(calm)
    calm.keyboard.press("?")
    wait_until_idle(calm)
    expect(sheet).to_have_count(0)
    calm.get_by_test_id("stSidebar").get_by_role("button", name="Keys").press("Enter")
    switch.focus()
    switch.press("Space")
    expect(sheet).to_have_count(0)
    wait_until_idle(calm)
    calm.keyboard.press("?")
    expect(sheet).to_have_count(1)
    calm.keyboard.press("Escape")


def test_nothing_moves_for_who_asks_for_less_motion(filled: Server, calm: Page) -> None:
    goto(calm, address_of(filled, "traces?completion=1"))
    assert calm.evaluate(MOTION) == []
