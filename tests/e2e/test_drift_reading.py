"""From the runs to one sentence about drift, to ten traces that show it, with the keyboard and by address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from scripts import browsing
from scripts.browsing import goto, no_exception, overflow, wait_until_idle
from store.db.engine import Store, open_store
from store.evaluations.records import list_evaluations
from tests import compared, seeded
from tests.pages.test_trace_view import HOSTILE
from trainer.datasets import shapes

pytestmark = pytest.mark.e2e
SFT, GRPO = "sft-cot-tiny-r32-s0", "grpo-cot-tiny-r32-s0"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    """The app on SFT and GRPO with tests on drawn scenes, and with a probe of hostile texts each."""
    folder = tmp_path_factory.mktemp("drift")
    store = open_store(str(folder / "test.db"))
    compared.fill(store, replace(compared.TABLES, ranks=(32,)), n=24)
    for name in (SFT, GRPO):
        hostile_probe(store, name)
    store.close()
    with browsing.serving(f"sqlite:///{folder}/test.db", folder / "server.log", jobs_end=True) as server:
        yield server


def hostile_probe(store: Store, name: str) -> None:
    held_out = shapes.examples("hard", "val", len(HOSTILE), 0)
    texts = [f"<think>{name} {text}. {text}</think><answer>1</answer>" for text in HOSTILE]
    readable = [text.encode("utf-8", "replace").decode() for text in texts]
    compared.probe(store, seeded.find(store, name).id, held_out, readable)


def test_three_clicks_lead_from_the_number_to_ten_traces(served: browsing.Server, browser_page: Page) -> None:
    """The sentence, the ten furthest apart, one of them; then its trace alone."""
    page = browser_page
    goto(page, f"{served.url}/drift?view=What+changed")
    expect(page.locator(".st-key-drift-verdict")).to_contain_text("drifted apart")
    page.get_by_role("button", name="Read the ten most different answers").click()
    expect(page.locator(".dr-said")).to_have_count(20)
    expect(page.locator(".dr-column")).to_have_count(3)
    page.locator(".st-key-drift-list a").nth(3).click()
    page.wait_for_url("**example=**")
    expect(page.get_by_text("4 of 24", exact=True)).to_be_visible()
    page.locator(".dr-facts a").last.click()
    page.wait_for_url("**prediction=**")
    wait_until_idle(page)
    no_exception(page)


@pytest.mark.parametrize("width", [1440, 800])
def test_questions_are_read_with_the_keyboard(served: browsing.Server, browser_page: Page, width: int) -> None:
    """Arrows go on and back, letters jump, and the address of a question opens it again."""
    page = browser_page
    page.set_viewport_size({"width": width, "height": 900})
    goto(page, f"{served.url}/drift")
    expect(page.get_by_text("1 of 24", exact=True)).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("2 of 24", exact=True)).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("3 of 24", exact=True)).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("2 of 24", exact=True)).to_be_visible()
    page.keyboard.press("x")
    expect(page.get_by_text("1 of 24", exact=True)).to_be_visible()
    expect(page).to_have_url(re.compile("order=random"))
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("2 of 24", exact=True)).to_be_visible()
    wait_until_idle(page)
    card = page.locator(".dr-column").last.inner_text()
    assert overflow(page) <= 0
    goto(page, page.url)
    no_exception(page)
    expect(page.get_by_text("2 of 24", exact=True)).to_be_visible()
    expect(page.locator(".dr-column").last).to_have_text(card, use_inner_text=True)


@pytest.mark.parametrize("start", ["compare", "run", "runs"])
def test_other_pages_lead_here(served: browsing.Server, browser_page: Page, start: str) -> None:
    page = browser_page
    store = open_store(served.database, readonly=True)
    uid = seeded.find(store, GRPO).uid
    store.close()
    if start == "runs":
        goto(page, f"{served.url}/drift?runs={uid}")
    else:
        goto(page, f"{served.url}/{start}?run={uid}&tab=Evaluations")
        name = "See how the styles differ" if start == "compare" else "Compare style with another run"
        page.get_by_role("link", name=name).click()
    expect(page.locator(".st-key-drift-verdict")).to_contain_text("SFT and GRPO")
    wait_until_idle(page)
    no_exception(page)


@pytest.mark.parametrize("view", ["Side by side", "What changed"])
def test_hostile_texts_do_nothing(served: browsing.Server, browser_page: Page, view: str) -> None:
    """Scripts do not run, pictures are not fetched, and nothing leaves this machine."""
    page = browser_page
    away: list[str] = []
    page.on("request", lambda request: away.append(request.url) if not request.url.startswith(served.url) else None)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    store = open_store(served.database, readonly=True)
    probes = [
        each.id
        for name in (SFT, GRPO)
        for each in list_evaluations(store, seeded.find(store, name).id)
        if each.kind == "probe"
    ]
    store.close()
    for at in range(len(HOSTILE) if view == "Side by side" else 1):
        if at == 0:
            goto(page, f"{served.url}/drift?sides={probes[0]},{probes[1]}&view={view.replace(' ', '+')}")
        else:
            page.keyboard.press("ArrowRight")
            expect(page.get_by_text(f"{at + 1} of {len(HOSTILE)}", exact=True)).to_be_visible()
        no_exception(page)
        assert overflow(page) <= 0, at
    assert [url for url in away if not url.startswith(("data:", "blob:"))] == []
