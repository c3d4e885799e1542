"""The pictures of pages that scripts take: none is forgotten."""

from __future__ import annotations

from pathlib import Path

from scripts.screenshots import pages_to_show
from store.db.engine import Store

PAGES = Path(__file__).resolve().parents[2] / "pages"


def test_every_page_has_a_picture(seeded_store: Store) -> None:
    assert set(pages_to_show(seeded_store, None)) == {path.stem for path in PAGES.glob("*.py")}
