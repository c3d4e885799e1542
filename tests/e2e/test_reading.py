"""What somebody does with traces: finds, reads, marks, compares, takes along, trains on, and scores them again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from scripts import browsing
from scripts.browsing import goto, no_exception, overflow, wait_until_idle
from store.completions.rows import list_groups
from store.db.engine import Store, open_store
from store.db.rows import CompletionRow, PredictionRow
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.steps import record_step
from tests.pages.test_token_view import by_character
from tests.pages.test_trace_view import HOSTILE
from tests.seeded import find, seed_database

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    """The app on a database that holds runs in every state, one step and one evaluation of hostile texts."""
    folder = tmp_path_factory.mktemp("reading")
    seed_database(folder / "test.db", now=time.time())
    store = open_store(str(folder / "test.db"))
    add_hostile_step(store)
    store.close()
    with browsing.serving(f"sqlite:///{folder}/test.db", folder / "server.log", jobs_end=True) as server:
        yield server


def add_hostile_step(store: Store) -> None:
    run = find(store, "demo-grpo")
    example = list_groups(store, run.id, 1)[0].completions[0].example_id
    texts = [text.encode("utf-8", "replace").decode() for text in (*HOSTILE, "x" * 100_000)]
    rows = [
        CompletionRow(
            text=f"hostile {text}",
            wellformed=False,
            correct=False,
            tokens=9,
            reward=float(i),
            generation=0,
            group=0,
            index=i,
            example_id=example,
            advantage=0.0,
        )
        for i, text in enumerate(texts)
    ]
    tokens = {i: by_character(row.text) for i, row in enumerate(rows)}
    record_step(store, run.id, 171, {"reward": 1.0}, at=time.time(), completions=rows, measured=tokens)
    assert example is not None
    evaluation = begin_evaluation(
        store,
        run.id,
        benchmark=run.dataset,
        split="val",
        kind="val",
        step=171,
        conditions={"prompt": "5d41402abc4b2a76", "temperature": 0.0},
        encoder=None,
        total=len(rows),
    )
    predictions = [
        PredictionRow(text=row.text, wellformed=False, correct=False, example_id=example, sample=i)
        for i, row in enumerate(rows)
    ]
    record_predictions(store, evaluation, predictions)
    finish_evaluation(store, evaluation, {"n": len(rows), "exact_match": 0.0})


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
    goto(page, f"{seeded.url}/find?run={find(reader, 'demo-grpo').uid}")
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
    expect(page.get_by_role("dialog")).to_contain_text("these keys")
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
    run = find(reader, "demo-grpo")
    goto(page, f"{seeded.url}/find?run={run.uid}&judged=Right&form=Well-formed&step_from=100")
    page.get_by_role("button", name="Tag", exact=False).first.click()
    page.get_by_label("Tag", exact=True).last.fill("good")
    page.get_by_role("button", name="Tag all results").click()
    expect(page.get_by_text(re.compile("completions are tagged"))).to_be_visible()
    goto(page, f"{seeded.url}/find?tag=good")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as JSONL").click()
    download.value.save_as(tmp_path / "lines.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 50
    assert all(line["correct"] and line["step"] >= 100 and "good" in line["tags"] for line in lines)
    page.get_by_role("button", name="Train on this selection").click()
    page.wait_for_url("**/launch?**")
    wait_until_idle(page)
    no_exception(page)
    expect(page.locator("input[value*='sft-selection-']").first).to_be_visible()
    expect(page.get_by_text("dataset=folder", exact=False).first).to_be_visible()


def test_answers_stand_side_by_side(seeded: browsing.Server, browser_page: Page, reader: Store) -> None:
    """One switch turns the rows of every group into columns with their differences marked."""
    page = browser_page
    goto(page, f"{seeded.url}/traces?run={find(reader, 'demo-grpo').uid}&step=60")
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
    goto(page, f"{seeded.url}/rewards?run={find(reader, 'demo-grpo').uid}&view=A+whole+run")
    page.get_by_label("steps", exact=True).fill("0")
    page.get_by_label("steps", exact=True).press("Enter")
    wait_until_idle(page)
    page.get_by_role("button", name="Score again").click()
    expect(page.get_by_text("Judged most differently")).to_be_visible()
    expect(page.get_by_test_id("stMain").locator(".stProgress")).to_have_count(0)
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    no_exception(page)
    assert overflow(page) <= 0


def test_a_note_stays_with_its_trace(seeded: browsing.Server, browser_page: Page, reader: Store) -> None:
    """What somebody writes beside a trace is there when its address is opened again."""
    page = browser_page
    row = list_groups(reader, find(reader, "demo-grpo").id, 90)[0].completions[0]
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
    "traces?completion",
    "rewards?completion",
)


@pytest.mark.parametrize("place", PLACES)
def test_hostile_texts_do_nothing(seeded: browsing.Server, browser_page: Page, reader: Store, place: str) -> None:
    """Scripts do not run, pictures are not fetched, and nothing leaves this machine."""
    page = browser_page
    away: list[str] = []
    page.on("request", lambda request: away.append(request.url) if not request.url.startswith(seeded.url) else None)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    run = find(reader, "demo-grpo")
    rows = list_groups(reader, run.id, 171)[0].completions
    suffixes = [f"={row.id}" for row in rows] if place.endswith("completion") else [f"&run={run.uid}"]
    for suffix in suffixes:
        goto(page, f"{seeded.url}/{place}{suffix}")
        no_exception(page)
        assert overflow(page) <= 0, suffix
    assert [url for url in away if not url.startswith(("data:", "blob:"))] == []
