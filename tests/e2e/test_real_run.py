"""Reading a run that was really trained, and runs that other tools left: from their story down to single tokens."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from scripts import browsing
from scripts.browsing import ROOT, Server, click_chart, goto, no_exception, overflow, wait_until, wait_until_idle
from store.completions.rows import list_completions
from store.db.engine import Store, open_store
from tests.seeded import find
from tests.store.test_importing import GOOD, IMPORTED, group, write_tables
from tests.training.conftest import SMALL

pytestmark = pytest.mark.e2e
STEPS, SAMPLES = 16, 8
SETTINGS = SMALL | {"optimization.steps": str(STEPS), "name": "real", "evaluation.val_every": "8"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app on a database with a short run of the embedded model, a run of W&B and one of TRL."""
    folder = tmp_path_factory.mktemp("real")
    database = f"sqlite:///{folder}/test.db"
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    for command in (
        ["trainer", "run", "--preset", "shapes-grpo", *settings, "--db", database],
        ["store", "import", "wandb", str(IMPORTED), "--name", "elsewhere", "--db", database],
        ["store", "import", "trl", str(shotgun(folder / "shotgun")), "--db", database],
    ):
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
    with browsing.serving(database, folder / "server.log", jobs_end=True) as server:
        yield server


def shotgun(folder: Path) -> Path:
    """What TRL leaves of a run that bets on several counts from its middle on."""
    bets = "<think>1. red</think><answer>1</answer><answer>2</answer>"
    steps = {
        step: [row for prompt in "abcd" for row in group(prompt, [1.0, 0.0, 0.5, 0.0], bets if step > 60 else GOOD)]
        for step in range(1, 121)
    }
    return write_tables(folder, steps)


@pytest.fixture
def store(trained: Server) -> Iterator[Store]:
    opened = open_store(trained.database, readonly=True)
    yield opened
    opened.close()


@pytest.fixture
def page(browser_page: Page) -> Iterator[Page]:
    yield browser_page
    no_exception(browser_page)
    assert overflow(browser_page) <= 0


def test_a_completion_is_read_down_to_its_tokens(trained: Server, page: Page, store: Store) -> None:
    """Picture, reasons and neighbours, then every token with its numbers, coloured by one figure or the other."""
    row = list_completions(store, find(store, "real").id, steps=(STEPS, STEPS), limit=1)[0]
    goto(page, f"{trained.url}/traces?completion={row.id}")
    picture = page.locator(".st-key-inspector img").first
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    expect(page.locator(".tv-rewards")).to_contain_text("reward")
    expect(page.get_by_text(f"Measured with the weights that sampled it, after {STEPS - 1} updates.")).to_be_visible()
    tokens = page.locator(".tk > span")
    expect(tokens).to_have_count(row.tokens or 0)
    assert re.fullmatch(r"probability .+ · change .+ · entropy .+ nats", tokens.first.get_attribute("title") or "")
    colours = "spans => spans.map(span => span.style.background)"
    by_entropy = tokens.evaluate_all(colours)
    page.get_by_test_id("stButtonGroup").get_by_text("Change", exact=True).click()
    wait_until(page, lambda: tokens.evaluate_all(colours) not in ([], by_entropy))


def test_tokens_are_measured_on_demand(trained: Server, page: Page, store: Store) -> None:
    """A completion that was not sampled for it is measured by a job of the queue, which says under which weights."""
    row = list_completions(store, find(store, "real").id, steps=(9, 9), limit=50)[-1]
    goto(page, f"{trained.url}/traces?completion={row.id}")
    page.get_by_role("button", name="Measure tokens").click()
    told = page.get_by_text(re.compile(r"with the checkpoint of step \d+; it was sampled with the weights after 8"))
    expect(told).to_be_visible()
    expect(page.locator(".tk > span")).to_have_count(row.tokens or 0)


def test_answers_of_a_question_stand_side_by_side(trained: Server, page: Page, store: Store) -> None:
    goto(page, f"{trained.url}/traces?run={find(store, 'real').uid}&step=4&columns=true")
    expect(page.locator(".tv-columns")).to_have_count(2)
    expect(page.locator(".tv-column").nth(2)).to_be_attached()


def test_what_it_said_is_found(trained: Server, page: Page, store: Store) -> None:
    run = find(store, "real")
    goto(page, f"{trained.url}/find?run={run.uid}&form=Malformed&order=tokens")
    expect(page.locator(".tv-place a").first).to_be_visible()
    page.locator(".tv-place a").first.click()
    expect(page.get_by_text(re.compile(r"^Completion \d+$"))).to_be_visible()
    expect(page.locator(".tv-rule").first).to_be_visible()


def test_its_story_leads_to_its_texts(trained: Server, page: Page, store: Store) -> None:
    """All rows share one axis; a click into one sets the step whose traces are a click away."""
    goto(page, f"{trained.url}/emergence?run={find(store, 'real').uid}")
    rows = page.locator(".live-chart .nsewdrag")
    expect(rows.nth(6)).to_be_attached()
    click_chart(page, rows.first)
    page.get_by_role("link", name="Open its traces").click()
    page.wait_for_url("**/traces?**step=**")
    wait_until_idle(page)


def test_one_question_is_followed_through_training(trained: Server, page: Page, store: Store) -> None:
    goto(page, f"{trained.url}/emergence?run={find(store, 'real').uid}")
    slider = page.get_by_test_id("stSlider").get_by_role("slider")
    slider.scroll_into_view_if_needed()
    slider.focus()
    slider.press("ArrowLeft")
    wait_until_idle(page)
    expect(page.locator(".wd").first).to_be_visible()


def test_a_completion_is_scored_under_other_rewards(trained: Server, page: Page, store: Store) -> None:
    row = list_completions(store, find(store, "real").id, steps=(4, 4), limit=1)[0]
    goto(page, f"{trained.url}/rewards?completion={row.id}")
    expect(page.get_by_test_id("stMain")).to_contain_text("accuracy")


def test_a_run_of_another_tool_is_read(trained: Server, page: Page, store: Store) -> None:
    """Its curves are drawn, it is called imported, and what it lacks is said."""
    run = find(store, "elsewhere")
    goto(page, f"{trained.url}/run?run={run.uid}")
    expect(page.get_by_text("Imported from wandb; data that it did not record is missing.")).to_be_visible()
    expect(page.locator(".live-chart .main-svg").first).to_be_visible()
    expect(page.get_by_role("button", name="Resume")).to_have_count(0)
    goto(page, f"{trained.url}/traces?run={run.uid}")
    expect(page.get_by_text("This run was imported without completions.")).to_be_visible()


def test_what_looks_wrong_is_shown_with_its_traces(trained: Server, page: Page, store: Store) -> None:
    """A policy that came to bet on several counts is noticed, and the texts behind that are a click away."""
    goto(page, f"{trained.url}/emergence?run={find(store, 'shotgun').uid}")
    finding = page.locator(".st-key-finding_shotgun")
    expect(page.get_by_text("this is evidence, not a verdict.")).to_be_visible()
    finding.get_by_role("link").last.click()
    page.wait_for_url("**/traces?**step=**")
    wait_until_idle(page)
    expect(page.locator(".tv").first).to_contain_text("<answer>2</answer>")
