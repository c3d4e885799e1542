"""Run the app in a real browser: start both, and wait as Streamlit requires.

Shared by the browser tests and the screenshots.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import psutil
from playwright.sync_api import Browser, Locator, Page, WebSocket, expect, sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from scripts.provide_browser import FLAGS, find_browser

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 240
IDLE_MS = 120_000
DEBOUNCED = "() => new Promise(done => setTimeout(done, 250))"
"""Sliders report their value 200 ms after they stop, by the same clock of the page."""
INTERRUPTED = ForwardMsg.FINISHED_EARLY_FOR_RERUN
ROW = 35
"""Height in pixels of a table's rows and header."""
APP = "[data-testid='stApp']"


@dataclass(frozen=True)
class Server:
    url: str
    database: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def serving(database: str, log: Path, *arguments: str, jobs_end: bool = False, base: str = "") -> Iterator[Server]:
    """Serve `python -m app` for a database URL on a free port and below the path `base`, until the block ends.

    `jobs_end` also kills all other processes on that database; use it only for temporary databases.

    Raises RuntimeError with the server's log if it does not start.
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
    """Kill this database's server, queue and jobs, which all have its URL in their environment."""
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
        raise RuntimeError("No Chromium was found. Run 'python -m scripts.provide_browser' first.")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield opened
        opened.close()


class Exchange:
    """Tracks a page's requests to the server and whether they were answered."""

    def __init__(self, page: Page) -> None:
        self.requested_fragment: str | None = None
        """The fragment of the last unanswered action, empty for the whole page; None if everything is answered."""
        self.is_running = False
        page.on("websocket", self._listen)

    def _listen(self, socket: WebSocket) -> None:
        self.requested_fragment = None
        socket.on("framesent", self._sent)
        socket.on("framereceived", self._received)

    def _sent(self, frame: str | bytes) -> None:
        message = BackMsg.FromString(frame) if isinstance(frame, bytes) else BackMsg()
        if message.HasField("rerun_script") and not message.rerun_script.is_auto_rerun:
            self.requested_fragment, self.is_running = message.rerun_script.fragment_id, False

    def _received(self, frame: str | bytes) -> None:
        message = ForwardMsg.FromString(frame) if isinstance(frame, bytes) else ForwardMsg()
        if message.HasField("new_session"):
            parts = message.metadata.run.fragment_ids
            self.is_running = not parts or self.requested_fragment in parts
        elif message.HasField("script_finished") and self.is_running and message.script_finished != INTERRUPTED:
            self.requested_fragment = None


_exchanges: WeakKeyDictionary[Page, Exchange] = WeakKeyDictionary()


def goto(page: Page, url: str) -> None:
    """Open an address of the app and wait until the page has run once."""
    if page not in _exchanges:
        _exchanges[page] = Exchange(page)
    page.goto(url)
    wait_until_idle(page)


def wait_until_idle(page: Page) -> None:
    """Wait until the last action is answered and no skeleton is shown. Raises an error after two minutes."""
    page.evaluate(DEBOUNCED)
    page.wait_for_selector(f"{APP}[data-test-connection-state='CONNECTED']", state="attached", timeout=IDLE_MS)
    if exchange := _exchanges.get(page):
        wait_until(page, lambda: exchange.requested_fragment is None)
    page.wait_for_selector(f"{APP}[data-test-script-state='notRunning']", state="attached", timeout=IDLE_MS)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=IDLE_MS)


def wait_until(page: Page, is_so: Callable[[], bool]) -> None:
    """Wait for a condition that a locator cannot express. Raises TimeoutError after two minutes."""
    deadline = time.monotonic() + IDLE_MS / 1000
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{page.url}: the condition was not met within {IDLE_MS // 1000} s")
        page.wait_for_timeout(50)


def click_chart(page: Page, plot: Locator) -> None:
    """Click into the middle of a Plotly chart's drag layer after Plotly has found the point there."""
    hovered = "layer => Boolean(layer.closest('.js-plotly-plot')._hoverdata?.length)"

    def is_hovered() -> bool:
        plot.hover()
        return bool(plot.evaluate(hovered))

    plot.scroll_into_view_if_needed()
    wait_until(page, is_hovered)
    page.mouse.down()
    page.mouse.up()


def cell(table: Locator, column: int, row: int) -> Locator:
    """Return the element that a screen reader finds for a table's cell; column and row count from 0."""
    return table.get_by_test_id(f"glide-cell-{column}-{row}")


def edit_cell(page: Page, table: Locator, start: tuple[int, int], column: int, text: str) -> None:
    """Type a text into a cell of a table, which is reached by keyboard from a click in its row.

    `start` is a column and its distance in pixels from the table's left edge.
    """
    first, distance = start
    table.click(position={"x": distance, "y": 1.5 * ROW})
    expect(cell(table, first, 0)).to_have_attribute("aria-selected", "true")
    for place in range(first + 1, column + 1):
        page.keyboard.press("ArrowRight")
        expect(cell(table, place, 0)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    field = page.locator("#portal").locator("input, textarea").first
    expect(field).to_be_focused()
    field.press_sequentially(text)
    field.press("Enter")
    page.get_by_role("heading", level=1).click()  # a list of tags stays open until something else is clicked
    wait_until_idle(page)


def click_link(page: Page, table: Locator, row: int) -> None:
    """Click the link in a row of a table, which is found by the pointer becoming a hand."""
    is_hand = "([x, y]) => getComputedStyle(document.elementFromPoint(x, y)).cursor === 'pointer'"
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    assert box is not None
    y = box["y"] + (row + 1.5) * ROW

    def is_found() -> bool:
        for x in range(int(box["x"] + box["width"]) - 6, int(box["x"]), -12):
            page.mouse.move(x, y)
            if page.evaluate(is_hand, [x, y]):
                return True
        return False

    wait_until(page, is_found)
    page.mouse.down()
    page.mouse.up()


def no_exception(page: Page) -> None:
    """Fail with the text of an error box or of a dialog about a missing page."""
    assert page.locator("[data-testid='stException'], [role='dialog']").all_inner_texts() == []


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than the window; should be 0."""
    return int(
        page.evaluate(
            """() => Math.max(...[document.documentElement, document.querySelector("[data-testid='stMain']")]
                .map(element => element.scrollWidth - element.clientWidth))"""
        )
    )


def nameless(page: Page) -> list[str]:
    """Return the page's buttons without a name for screen readers; should be none."""
    buttons: list[str] = page.locator("[data-testid='stMain'] button").evaluate_all(
        "all => all.filter(b => b.offsetParent && !(b.innerText || b.ariaLabel || b.title)).map(b => b.outerHTML)"
    )
    return buttons


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
