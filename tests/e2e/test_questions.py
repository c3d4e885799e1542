"""What a newcomer asks is answered from the recorded runs, each in at most three clicks: docs/questions.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from playwright.sync_api import Page, expect

from app import recorded
from scripts import browsing
from scripts.browsing import goto, wait_until_idle
from store.db.engine import open_store

pytestmark = pytest.mark.e2e
TEXT = (browsing.ROOT / "docs/questions.md").read_text(encoding="utf-8")


class Asked(NamedTuple):
    """A line of the document: the question, the clicks from the first page, and a text of the answer on the screen."""

    question: str
    clicks: list[str]
    sight: str


def questions() -> list[Asked]:
    rows = re.findall(r"^\| \d+ \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", TEXT, re.MULTILINE)
    return [Asked(question, path.split(" → "), sight.strip("`")) for question, _, path, sight in rows]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    folder = tmp_path_factory.mktemp("questions")
    store = open_store(str(folder / "runs.db"))
    recorded.load(store)
    store.close()
    with browsing.serving(f"sqlite:///{folder}/runs.db", folder / "server.log", jobs_end=True) as server:
        yield server


def test_there_are_ten_within_three_clicks() -> None:
    found = questions()
    assert len(found) == 10
    assert max(len(each.clicks) for each in found) <= 3


@pytest.mark.parametrize("asked", questions(), ids=lambda asked: asked.question)
def test_a_question_is_answered(shown: browsing.Server, browser_page: Page, asked: Asked) -> None:
    page = browser_page
    goto(page, shown.url)
    for click in asked.clicks:
        page.locator("a:visible, button:visible").filter(has_text=click).last.click()
        wait_until_idle(page)
    expect(page.get_by_text(asked.sight).filter(visible=True).first).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
