"""Make contact sheets: all pages side by side at three widths, light and dark.

    python -m scripts.contact_sheets [--db URL] [--out FOLDER]

Look at them after changes to the interface: pages that are empty, overlap or are wider than the window stand out."""

from __future__ import annotations

import argparse
import io
import math
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Browser

from scripts import browsing
from scripts.screenshots import DRAWN, SCHEMES, SETTLED_MILLISECONDS, pages_to_show
from store.db.engine import StoreError, database_url, open_store

WIDTHS = {1440: 1100, 1024: 1100, 390: 844}
"""Window heights by width."""
ACROSS = {1440: 4, 1024: 4, 390: 7}
"""Pages per row of a sheet."""
CELL_WIDTH, GAP, TITLE = 480, 12, 24


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.contact_sheets", description=__doc__.splitlines()[0])
    parser.add_argument("--db", metavar="URL", help="database URL or SQLite file (default: $VR1Z_DATABASE_URL)")
    parser.add_argument("--out", type=Path, default=browsing.ROOT / "docs/contact-sheets", help="default: %(default)s")
    options = parser.parse_args()
    database = database_url(options.db)
    try:
        addresses = pages_to_show(open_store(database, readonly=True), None)
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
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
                file = options.out / f"{width}-{scheme}.webp"
                sheet(shots, width).save(file, quality=70)
                print(file)
    for name in too_wide:
        print(f"{name} is wider than its window.", file=sys.stderr)
    return 1 if too_wide else 0


def shoot(
    browser: Browser, url: str, addresses: dict[str, str], width: int, scheme: str, too_wide: list[str]
) -> dict[str, Image.Image]:
    """Return a screenshot of each page; add those that overflow to `too_wide`."""
    page = browser.new_page(
        viewport={"width": width, "height": WIDTHS[width]}, color_scheme="dark" if scheme == "dark" else "light"
    )
    shots: dict[str, Image.Image] = {}
    for name, address in addresses.items():
        browsing.goto(page, url + address)
        browsing.no_exception(page)
        page.wait_for_function(DRAWN)
        page.wait_for_timeout(SETTLED_MILLISECONDS)
        if browsing.overflow(page) > 0:
            too_wide.append(f"{name} at {width} px")
        shots[name] = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.close()
    return shots


def sheet(shots: dict[str, Image.Image], width: int) -> Image.Image:
    """Arrange the screenshots in rows, each below its name."""
    across = ACROSS[width]
    cell = (min(CELL_WIDTH, width), round(WIDTHS[width] * min(CELL_WIDTH, width) / width))
    rows = math.ceil(len(shots) / across)
    made = Image.new("RGB", (across * (cell[0] + GAP) + GAP, rows * (cell[1] + TITLE + GAP) + GAP), "#8a93a0")
    draw = ImageDraw.Draw(made)
    for number, (name, shot) in enumerate(shots.items()):
        left = GAP + number % across * (cell[0] + GAP)
        top = GAP + number // across * (cell[1] + TITLE + GAP)
        draw.text((left, top + 4), name, fill="white", font_size=16)
        made.paste(shot.resize(cell, Image.Resampling.LANCZOS), (left, top + TITLE))
    return made


if __name__ == "__main__":
    sys.exit(main())
