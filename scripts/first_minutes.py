"""Measure a new user's first minutes in Chromium, from the command to the first trace of the live run.

    python -m scripts.first_minutes

Starts `python -m app --demo`, as `make demo` does after installation, with a separate database, and prints the seconds
until curves, a trace with its image and a comparison are visible, and until the live run shows its first trace, each
with the load of the machine."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, expect

from scripts import browsing

PATIENCE_MS = 600_000
SIGHTS = {
    "curves": ("/run", ".live-chart .main-svg"),
    "a trace with its image": ("/traces", ".tv-summary, details, [data-testid='stImage'] img"),
    "a comparison": ("/compare", "table"),
}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, browsing.browser() as browser:
        start = time.monotonic()
        database = f"sqlite:///{folder}/runs.db"
        with browsing.serving(database, Path(folder) / "server.log", "--demo", jobs_end=True) as server:
            print_elapsed(start, "the server answers")
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            for name, (address, sight) in SIGHTS.items():
                page.goto(server.url + address)
                expect(page.locator(sight).filter(visible=True).first).to_be_visible(timeout=PATIENCE_MS)
                print_elapsed(start, name)
            first_trace(page, server.url)
            print_elapsed(start, "the live run's first trace")
    return 0


def print_elapsed(start: float, event: str) -> None:
    print(f"{time.monotonic() - start:5.1f} s  {event} (load {os.getloadavg()[0]:.1f})", flush=True)


def first_trace(page: Page, url: str) -> None:
    """Wait for answers of running runs on the Tour page."""
    page.goto(f"{url}/tour")
    answers = page.locator(".st-key-latest_group, .st-key-latest_answer")
    expect(answers.first).to_be_visible(timeout=PATIENCE_MS)


if __name__ == "__main__":
    sys.exit(main())
