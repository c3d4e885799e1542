"""What somebody does with traces: finds, reads, marks, compares, takes along, trains on, and scores them again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from scripts import browsing
from scripts.browsing import goto, no_exception, overflow, wait_until_idle
from store.completions.rows import list_groups
from store.db.engine import Store, open_store
from tests.e2e import hostile_texts
from tests.seeded import find

pytestmark = pytest.mark.e2e


@pytest.fixture
def reader(seeded: browsing.Server) -> Iterator[Store]:
    store = open_store(seeded.database, readonly=True)
    yield store
    store.close()


def test_a_phrase_is_found_and_read_with_the_keyboard(
    seeded: browsing.Server, browser_page: Page, reader: Store
) -> None:
    """From a pattern to the first match, to the trace behind it, to its neighbours, without the mouse."""
    page = browser_page
    goto(page, f"{seeded.url}/find?run={find(reader, 'shapes-grpo').uid}")
    page.get_by_label("Text", exact=True).fill(r"there are \d+ of")
    page.get_by_label("Text", exact=True).press("Enter")
    wait_until_idle(page)
    page.locator(".stCheckbox", has_text="Expression").locator("label").first.click()
    wait_until_idle(page)
    expect(page).to_have_url(re.compile("(?=.*regex=true)(?=.*q=there)"))
    page.locator(".tv-place a").first.click()
    expect(page.get_by_text(re.compile(r"^Completion \d+$"))).to_be_visible()
    wait_until_idle(page)
    no_exception(page)
    first = page.get_by_text(re.compile(r"^Completion \d+$")).inner_text()
    image = page.locator(".st-key-inspector img").first
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.locator("body").press("j" if page.locator(".st-key-inspect-j button").first.is_enabled() else "k")
    expect(page.get_by_text(first, exact=True)).to_have_count(0)
    wait_until_idle(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("show this list")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.locator("body").press("g")
    expect(page.locator(".st-key-inspector")).to_have_count(0)
    expect(page).not_to_have_url(re.compile("completion="))


def test_a_selection_is_tagged_exported_and_trained_on(
    seeded: browsing.Server, browser_page: Page, reader: Store, tmp_path: Path
) -> None:
    """What a filter finds gets a tag, leaves as JSON lines, and fills the launch form."""
    page = browser_page
    run = find(reader, "shapes-grpo")
    goto(page, f"{seeded.url}/find?run={run.uid}&judged=Right&form=Well-formed&step_from=100")
    page.get_by_role("button", name="Tag", exact=False).first.click()
    page.get_by_label("Tag", exact=True).last.fill("good")
    page.get_by_role("button", name="Tag all results").click()
    expect(page.get_by_text(re.compile(r"Tagged [\d,]+ completions"))).to_be_visible()
    goto(page, f"{seeded.url}/find?tag=good")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as JSONL").click()
    download.value.save_as(tmp_path / "lines.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 50
    assert all(line["correct"] and line["step"] >= 100 and "good" in line["tags"] for line in lines)
    page.get_by_role("button", name="Train on results").click()
    page.wait_for_url("**/launch?**")
    wait_until_idle(page)
    no_exception(page)
    expect(page.locator("input[value*='sft-selection-']").first).to_be_visible()
    expect(page.get_by_text("dataset=folder", exact=False).first).to_be_visible()


def test_answers_stand_side_by_side(seeded: browsing.Server, browser_page: Page, reader: Store) -> None:
    """One switch turns the rows of every group into columns with their differences marked."""
    page = browser_page
    goto(page, f"{seeded.url}/traces?run={find(reader, 'shapes-grpo').uid}&step=60")
    page.locator(".stCheckbox", has_text="Side by side").locator("label").first.click()
    wait_until_idle(page)
    no_exception(page)
    expect(page.locator(".tv-columns")).to_have_count(2)
    expect(page.locator(".tv-compared ins").first).to_be_attached()
    assert overflow(page) <= 0
    expect(page).to_have_url(re.compile("columns=true"))


def test_a_run_is_scored_again_under_other_weights(seeded: browsing.Server, browser_page: Page, reader: Store) -> None:
    """Without a weight for steps some groups teach nothing any more; the charts and the largest changes show it."""
    page = browser_page
    goto(page, f"{seeded.url}/rewards?run={find(reader, 'shapes-grpo').uid}&view=A+whole+run")
    page.get_by_label("steps", exact=True).fill("0")
    page.get_by_label("steps", exact=True).press("Enter")
    wait_until_idle(page)
    page.get_by_role("button", name="Rescore").click()
    expect(page.get_by_text("Largest changes")).to_be_visible()
    expect(page.get_by_test_id("stMain").locator(".stProgress")).to_have_count(0)
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    no_exception(page)
    assert overflow(page) <= 0


def test_a_note_stays_with_its_trace(seeded: browsing.Server, browser_page: Page, reader: Store) -> None:
    """What somebody writes beside a trace is there when its address is opened again."""
    page = browser_page
    row = list_groups(reader, find(reader, "shapes-grpo").id, 90)[0].completions[0]
    goto(page, f"{seeded.url}/traces?completion={row.id}")
    page.get_by_label("Note").fill("counts one twice")
    page.get_by_label("Note").press("Control+Enter")
    wait_until_idle(page)
    goto(page, f"{seeded.url}/traces?completion={row.id}")
    expect(page.get_by_label("Note")).to_have_value("counts one twice")


PLACES = (
    "find?q=hostile",
    "run?step=171",
    "emergence?step=171",
    "traces?step=171",
    "traces?columns=true",
    "traces?view=Predictions",
)


@pytest.fixture
def watched(seeded: browsing.Server, browser_page: Page) -> Iterator[Page]:
    """A page on which scripts of texts do not run, which fetches no picture, and asks nothing of other machines."""
    page, away = browser_page, list[str]()
    page.on("request", lambda request: away.append(request.url) if not request.url.startswith(seeded.url) else None)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    yield page
    assert [url for url in away if not url.startswith(("data:", "blob:"))] == []


@pytest.mark.parametrize("place", PLACES)
def test_hostile_texts_do_nothing(seeded: browsing.Server, watched: Page, reader: Store, place: str) -> None:
    goto(watched, f"{seeded.url}/{place}&run={find(reader, hostile_texts.NAME).uid}")
    no_exception(watched)
    assert overflow(watched) <= 0


def test_hostile_texts_do_nothing_where_they_are_read_one_by_one(
    seeded: browsing.Server, watched: Page, reader: Store
) -> None:
    """Beside their pictures and tokens, from one to the next, and where they are scored."""
    page = watched
    rows = list_groups(reader, find(reader, hostile_texts.NAME).id, hostile_texts.STEP)[0].completions
    ids = [row.id for row in reversed(rows)]  # by reward, as the key goes
    goto(page, f"{seeded.url}/traces?completion={ids[0]}")
    for id in ids:
        expect(page.get_by_text(f"Completion {id}", exact=True)).to_be_visible()
        wait_until_idle(page)
        no_exception(page)
        assert overflow(page) <= 0, id
        if id != ids[-1]:
            page.locator("body").press("j")
    goto(page, f"{seeded.url}/rewards?completion={ids[0]}")
    for id in ids:
        number = page.get_by_label("Completion number")
        number.fill(str(id))
        number.press("Enter")
        expect(page.get_by_label("Completion", exact=True)).to_have_value(re.compile("^hostile "))
        wait_until_idle(page)
        no_exception(page)
        assert overflow(page) <= 0, id
