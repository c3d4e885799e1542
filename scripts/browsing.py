"""Run the app in a real browser: start both, and wait the way Streamlit needs it.

Shared by the browser tests and the screenshots.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, expect, sync_playwright

from scripts.provide_browser import FLAGS, find_browser

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60
IDLE_MILLISECONDS = 60_000
APP = "[data-testid='stApp']"


@dataclass(frozen=True)
class Server:
    url: str
    database: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def serving(database: str, log: Path, *arguments: str, jobs_end: bool = False, base: str = "") -> Iterator[Server]:
    """Serve `python -m app` on a free port and a database URL until the block ends, below a path `base`.

    `jobs_end` also kills all other processes on that database: for throw-away databases only.

    Raises RuntimeError with the server's log when it does not start.
    """
    port = _free_port()
    environment = os.environ | {"VR1Z_DATABASE_URL": database}
    below = ["--base-path", base] if base else []
    command = [sys.executable, "-m", "app", "--port", str(port), *below, *arguments]
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    server = Server(f"http://127.0.0.1:{port}{base}", database, log, process)
    try:
        _wait_until_up(server)
        yield server
    finally:
        process.kill()
        process.wait(timeout=10)
        if jobs_end:
            end_processes(database)


def end_processes(database: str) -> None:
    """Kill the processes of this database: server, queue, jobs. All have the URL in their environment."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("VR1Z_DATABASE_URL") == database and process.pid != os.getpid():
                process.kill()
        except psutil.Error:
            continue


@contextmanager
def browser() -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        raise RuntimeError("No Chromium: run 'python -m scripts.provide_browser' first.")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield opened
        opened.close()


def goto(page: Page, url: str) -> None:
    """Open an address of the app and wait until the page has run once."""
    page.goto(url)
    wait_until_idle(page)


def wait_until_idle(page: Page) -> None:
    """Wait until the script has run and no skeleton is left; raises Playwright's error after a minute."""
    page.wait_for_timeout(200)  # Streamlit debounces widgets before it reports that it runs
    for state in ("[data-test-connection-state='CONNECTED']", "[data-test-script-state='notRunning']"):
        page.wait_for_selector(APP + state, state="attached", timeout=IDLE_MILLISECONDS)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=IDLE_MILLISECONDS)


def no_exception(page: Page) -> None:
    """Fail with the text of an error box, or of the dialog that there is no such page."""
    assert page.locator("[data-testid='stException'], [role='dialog']").all_inner_texts() == []


def overflow(page: Page) -> int:
    """Return the pixels by which the page is wider than the window; 0 is right."""
    return int(
        page.evaluate(
            """() => Math.max(...[document.documentElement, document.querySelector("[data-testid='stMain']")]
                .map(element => element.scrollWidth - element.clientWidth))"""
        )
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.url}/api/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    state = "ended" if server.process.poll() is not None else f"did not answer within {START_SECONDS} s"
    raise RuntimeError(f"The app {state}. Its log:\n{server.log.read_text(encoding='utf-8')}")
