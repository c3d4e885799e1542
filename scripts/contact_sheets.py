"""Make contact sheets: all pages side by side, whole, at four widths, light and dark.

    python -m scripts.contact_sheets [--db URL] [--out FOLDER] [--pages NAME ...]

Look at them after changes to the interface: pages that are empty, overlap or are wider than the window stand out.
Without a database, the recorded runs are imported into one whose path may be shown."""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page

from app import recorded
from scripts import browsing
from scripts.screenshots import DRAWN, SCHEMES, SETTLED_MILLISECONDS, pages_to_show
from store.db.connection import Store
from store.db.engine import StoreError, database_url, open_store

WIDTHS = {1440: (4, 400), 1024: (5, 330), 800: (6, 280), 390: (8, 200)}
"""Pages per row of a sheet, and the width of a page there, by the width of the window."""
WINDOW, TALLEST = 900, 2600
"""Heights in pixels of the window, and of the part of a page that a sheet shows."""
GAP, TITLE = 12, 24
QUALITY = 62
DEMO = Path(tempfile.gettempdir(), "demo", "runs.db")
NAMES_MACHINE = ("system",)
"""Pages that name the machine, which are shown only on request."""
HEIGHT = "() => document.querySelector(\"[data-testid='stMain']\").scrollHeight"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.contact_sheets", description=__doc__.splitlines()[0])
    parser.add_argument("--db", metavar="URL", help="database URL or SQLite file (default: the recorded runs alone)")
    parser.add_argument("--out", type=Path, default=browsing.ROOT / "docs/contact-sheets", help="default: %(default)s")
    parser.add_argument("--pages", nargs="*", metavar="NAME", help="pages to show (default: all that name no machine)")
    options = parser.parse_args()
    database = database_url(options.db) if options.db else _demo()
    try:
        known = pages_to_show(open_store(database, readonly=True), None)
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    wanted = options.pages or [name for name in known if name not in NAMES_MACHINE]
    addresses = {name: known[name] for name in wanted}
    options.out.mkdir(parents=True, exist_ok=True)
    too_wide: list[str] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        browsing.serving(database, Path(folder) / "server.log") as server,
        browsing.browser() as browser,
    ):
        for width in WIDTHS:
            for scheme in SCHEMES:
                shots = shoot(browser, server.url, addresses, width, scheme, too_wide)
                file = options.out / f"{width}-{scheme}.jpg"
                sheet(shots, width).save(file, quality=QUALITY, optimize=True, progressive=True)
                print(file)
    for name in too_wide:
        print(f"{name} is wider than its window.", file=sys.stderr)
    return 1 if too_wide else 0


def _demo() -> str:
    """Return the URL of a database with the recorded runs."""
    DEMO.parent.mkdir(exist_ok=True)
    url = f"sqlite:///{DEMO}"
    store: Store = open_store(url)
    recorded.load(store)
    store.close()
    return url


def shoot(
    browser: Browser, url: str, addresses: dict[str, str], width: int, scheme: str, too_wide: list[str]
) -> dict[str, Image.Image]:
    """Return a screenshot of each page; add those that overflow to `too_wide`."""
    page = browser.new_page(
        viewport={"width": width, "height": WINDOW}, color_scheme="dark" if scheme == "dark" else "light"
    )
    shots: dict[str, Image.Image] = {}
    for name, address in addresses.items():
        page.set_viewport_size({"width": width, "height": WINDOW})
        browsing.goto(page, url + address)
        browsing.no_exception(page)
        if browsing.overflow(page) > 0:
            too_wide.append(f"{name} at {width} px")
        shots[name] = whole(page, width)
    page.close()
    return shots


def whole(page: Page, width: int) -> Image.Image:
    """Return a screenshot of the page from its top to its end, or to TALLEST."""
    _settle(page)
    page.set_viewport_size({"width": width, "height": min(TALLEST, max(WINDOW, int(page.evaluate(HEIGHT))))})
    _settle(page)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def _settle(page: Page) -> None:
    browsing.wait_until_idle(page)
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(SETTLED_MILLISECONDS)


def sheet(shots: dict[str, Image.Image], width: int) -> Image.Image:
    """Arrange the screenshots in rows, each below its name; a row is as tall as its tallest page."""
    across, cell = WIDTHS[width]
    small = {name: shot.resize((cell, round(shot.height * cell / width))) for name, shot in shots.items()}
    names = list(small)
    rows = [names[start : start + across] for start in range(0, len(names), across)]
    heights = [max(small[name].height for name in row) + TITLE + GAP for row in rows]
    made = Image.new("RGB", (min(across, len(names)) * (cell + GAP) + GAP, sum(heights) + GAP), "#8a93a0")
    draw = ImageDraw.Draw(made)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for number, name in enumerate(row):
            left = GAP + number * (cell + GAP)
            draw.text((left, top), name, fill="white", font_size=16)
            made.paste(small[name], (left, top + TITLE))
        top += height
    return made


if __name__ == "__main__":
    sys.exit(main())
