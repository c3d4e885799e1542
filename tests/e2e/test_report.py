"""A run, or several, as one file: it opens without a network, shows what the pages show, and nothing in it acts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import text

from app.report import document
from app.report.__main__ import main
from scripts import browsing
from scripts.browsing import goto, wait_until_idle
from store.completions.rows import list_completions
from store.db.engine import open_store
from store.notes import tag_traces
from tests.seeded import find, seed_database

pytestmark = pytest.mark.e2e

HOSTILE = "<script>document.title='taken'</script><img src=http://127.0.0.1:9/x.png onerror=alert(1)>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    """The app on a database in which every text of the runs is an attack."""
    folder = tmp_path_factory.mktemp("report")
    seed_database(folder / "test.db")
    store = open_store(str(folder / "test.db"))
    run = find(store, "shapes-grpo")
    tag_traces(store, "completion", [row.id for row in list_completions(store, run.id, limit=1)], HOSTILE)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE run SET note = :x, model = :x"), {"x": HOSTILE})
        connection.execute(text("UPDATE example SET question = :x || question"), {"x": HOSTILE})
        connection.execute(text('UPDATE completion SET text = :x || text WHERE "index" = 0'), {"x": HOSTILE})
    store.close()
    with browsing.serving(f"sqlite:///{folder}/test.db", folder / "server.log", jobs_end=True) as started:
        yield started


def opened(browser: Browser, file: Path) -> Page:
    """Open a file where there is no network; whatever it asks for or runs fails the test."""
    assert file.stat().st_size < document.MOST_BYTES
    context = browser.new_context(offline=True, viewport={"width": 390, "height": 900})
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog opened: {dialog.message}"))
    page.goto(file.as_uri())
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.title() != "taken"
    assert page.locator("script, main [onerror]").count() == 0
    return page


def test_a_run_is_saved_from_its_page(
    server: browsing.Server, browser: Browser, browser_page: Page, tmp_path: Path
) -> None:
    """Curves, milestones, the tagged answer with its picture, held-out answers and conditions are in one file."""
    store = open_store(server.database, readonly=True)
    run = find(store, "shapes-grpo")
    store.close()
    goto(browser_page, f"{server.url}/run?run={run.uid}")
    with browser_page.expect_download() as download:
        browser_page.get_by_role("button", name="Export as HTML").click()
    file = tmp_path / "run.html"
    download.value.save_as(file)
    wait_until_idle(browser_page)
    page = opened(browser, file)
    expect(page.get_by_role("heading", name="shapes-grpo", exact=True).first).to_be_visible()
    assert page.locator("figure svg path").count() >= 8
    expect(page.get_by_role("row", name="Step").first).to_be_visible()
    expect(page.get_by_text("tagged").first).to_be_visible()
    picture = page.locator(".card img").first
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.context.close()


def test_runs_are_saved_beside_one_another_by_the_command_line(
    server: browsing.Server, browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "both.html"
    assert main(["shapes-grpo", "shapes-sft", str(file), "--db", server.database]) == 0
    page = opened(browser, file)
    expect(page.get_by_role("heading", name="Configuration differences")).to_be_visible()
    expect(page.locator("figure").first.get_by_text("shapes-sft", exact=False)).to_be_visible()
    page.context.close()
    assert main(["shapes-grpo", str(file), "--db", server.database]) == 2
    assert "choose another file" in capsys.readouterr().err
    assert main(["nobody", str(tmp_path / "other.html"), "--db", server.database]) == 2
    assert not (tmp_path / "other.html").exists()
