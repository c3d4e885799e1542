"""Find or install a Chromium for the browser tests and screenshots, and print its path.

    python -m scripts.provide_browser

It searches the PATH and Playwright's downloads, then downloads one with Playwright, and then, as root on Debian or
Ubuntu, installs the system's package. If all fail, it stops with an error message.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
# For Streamlit pages only: turn off downloads, updates and reports in the background.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)


def find_browser() -> str | None:
    """Return the path of a Chromium that starts, or None."""
    return next((path for path in _candidates() if _starts(path)), None)


def main() -> int:
    browser = find_browser()
    if browser is None:
        _run([sys.executable, "-m", "playwright", "install", "--no-shell", "chromium"], seconds=300)
        browser = find_browser()
    if browser is None and shutil.which("apt-get") and os.geteuid() == 0:
        _run(["apt-get", "update"], seconds=300)
        _run(["apt-get", "install", "-y", "--no-install-recommends", "chromium"], seconds=900)
        browser = find_browser()
    if browser is None:
        print(
            "No Chromium was found for the browser tests. Install Chromium or Google Chrome and try again.",
            file=sys.stderr,
        )
        return 1
    print(browser)
    return 0


def _candidates() -> Iterator[str]:
    for name in NAMES:
        yield shutil.which(name) or ""
    with sync_playwright() as playwright:
        yield playwright.chromium.executable_path


def _starts(path: str) -> bool:
    """Return whether it runs. Ubuntu's chromium-browser is a stub, and downloads may lack system libraries."""
    if not Path(path).is_file():
        return False
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _run(command: Sequence[str], *, seconds: float) -> None:
    """Run a command that may fail; the caller checks afterwards whether it provided a browser."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT": "15000"}
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=seconds, env=environment)
    except subprocess.TimeoutExpired:
        print(f"{command[0]} took longer than {seconds:.0f} s and was stopped.", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
