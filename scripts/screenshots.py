"""Take the README's screenshots: every page, light and dark, with a database of real runs.

    python -m scripts.screenshots [--db URL] [--run RUN] [--out FOLDER]

RUN is a run's uid or unique name; the default is the newest GRPO run with steps."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, ViewportSize

from scripts import browsing
from store.db.engine import Store, StoreError, database_url, open_store
from store.runs import get_run, list_runs, resolve_run

SCHEMES = ("light", "dark")
SIZE: ViewportSize = {"width": 1440, "height": 1200}
DRAWN = "() => [...document.querySelectorAll('.live-chart')].every(chart => chart.querySelector('.main-svg'))"
SETTLED_MILLISECONDS = 1000
"""Milliseconds in which images load and animations finish."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.screenshots", description=__doc__.splitlines()[0])
    parser.add_argument("--db", metavar="URL", help="database URL or SQLite file (default: $VR1Z_DATABASE_URL)")
    parser.add_argument("--run", help="run to show (default: the newest GRPO run with steps)")
    parser.add_argument("--out", type=Path, default=browsing.ROOT / "docs/screenshots", help="default: %(default)s")
    options = parser.parse_args()
    database = database_url(options.db)
    try:
        addresses = pages_to_show(open_store(database, readonly=True), options.run)
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        browsing.serving(database, Path(folder) / "server.log") as server,
        browsing.browser() as browser,
    ):
        for scheme in SCHEMES:
            page = browser.new_page(viewport=SIZE, color_scheme="dark" if scheme == "dark" else "light")
            for name, address in addresses.items():
                shoot(page, server.url + address, options.out / f"{name}-{scheme}.png")
            page.close()
    return 0


def pages_to_show(store: Store, named_run: str | None) -> dict[str, str]:
    """Return one address per page, by file name. Raises StoreError if there is no run to show."""
    runs = [run for run in list_runs(store) if run.step]
    if named_run is not None:
        uid = get_run(store, resolve_run(store, named_run)).uid
    else:
        uid = next((run.uid for run in runs if run.method == "grpo"), "")
    if not uid:
        raise StoreError("There is no GRPO run with steps to show. Run 'make demo' first, or name a run with --run.")
    return {
        "runs": "/",
        "tour": "/tour",
        "launch": "/launch",
        "run": f"/run?run={uid}",
        "curves": "/curves",
        "sweep": "/sweep",
        "emergence": f"/emergence?run={uid}",
        "traces": f"/traces?run={uid}",
        "find": f"/find?run={uid}&judged=Wrong&sort=Most+steps",
        "rewards": f"/rewards?run={uid}",
        "compare": "/compare",
        "drift": f"/drift?run={uid}",
        "datasets": "/datasets",
        "record": "/record",
        "system": "/system",
    }


def shoot(page: Page, url: str, file: Path) -> None:
    browsing.goto(page, url)
    browsing.no_exception(page)
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(SETTLED_MILLISECONDS)
    page.screenshot(path=file)
    print(file)


if __name__ == "__main__":
    sys.exit(main())
