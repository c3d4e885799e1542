"""What somebody chose stays chosen, however late the browser hears of it and whatever it sends before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from scripts import browsing
from scripts.browsing import goto, wait_until, wait_until_idle
from store.db.engine import open_store
from tests.seeded import find

pytestmark = pytest.mark.e2e


class Line:
    """The web socket between a page and the server: while it is cut, the page hears nothing but is heard."""

    def __init__(self, page: Page) -> None:
        self.page, self.is_cut, self.held = page, False, list[str | bytes]()
        self.timers = 0
        self.addresses: list[str] = []
        """What the server made of the address."""
        page.route_web_socket("**/_stcore/stream*", self.connect)

    def connect(self, socket: WebSocketRoute) -> None:
        self.socket, server = socket, socket.connect_to_server()

        def sent(message: str | bytes) -> None:
            if isinstance(message, bytes):
                self.timers += BackMsg.FromString(message).rerun_script.is_auto_rerun
            server.send(message)

        def received(message: str | bytes) -> None:
            if isinstance(message, bytes):
                told = ForwardMsg.FromString(message)
                if told.HasField("page_info_changed"):
                    self.addresses.append(told.page_info_changed.query_string)
            self.held.append(message) if self.is_cut else socket.send(message)

        socket.on_message(sent)
        server.on_message(received)

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        wait_until(self.page, is_so)

    def is_told(self, parameter: str) -> bool:
        return any(parameter in each for each in self.addresses)

    def wait_for_a_timer(self) -> None:
        before = self.timers
        self.wait_for(lambda: self.timers > before)

    def mend(self) -> None:
        self.is_cut = False
        for message in self.held:
            self.socket.send(message)
        self.held.clear()


def opened(page: Page, address: str, shown: str = "1 of 6") -> Line:
    line = Line(page)
    goto(page, address)
    expect(page.get_by_text(shown, exact=True).first).to_be_visible()
    wait_until_idle(page)
    return line


def drift(seeded: browsing.Server) -> str:
    """Return the address of two runs that answered the same six questions."""
    store = open_store(seeded.database, readonly=True)
    uids = ",".join(find(store, name).uid for name in ("sft-cot-tiny-r32-s0", "grpo-cot-tiny-r32-s0"))
    store.close()
    return f"{seeded.url}/drift?runs={uids}"


def is_chosen(page: Page, order: str) -> None:
    expect(page.get_by_test_id("stButtonGroup").get_by_role("radio", name=order)).to_be_checked()


def test_a_refresh_undoes_nothing(seeded: browsing.Server, browser_page: Page) -> None:
    """A part of the page refreshes while the answer to a key is under way."""
    line = opened(browser_page, drift(seeded))
    line.is_cut = True
    browser_page.keyboard.press("x")
    line.wait_for(lambda: line.is_told("order=random"))
    line.wait_for_a_timer()
    line.wait_for_a_timer()
    line.mend()
    browser_page.wait_for_url("**order=random")
    line.wait_for_a_timer()
    is_chosen(browser_page, "Random")
    wait_until_idle(browser_page)
    assert len(line.addresses) == 1


def test_two_keys_in_quick_succession_both_count(seeded: browsing.Server, browser_page: Page) -> None:
    """The second is pressed before the first is answered."""
    line = opened(browser_page, drift(seeded))
    line.is_cut = True
    browser_page.keyboard.press("x")
    line.wait_for(lambda: line.is_told("order=random"))
    browser_page.keyboard.press("ArrowRight")
    line.wait_for(lambda: len(line.addresses) > 1)
    line.mend()
    expect(browser_page.get_by_text("2 of 6", exact=True)).to_be_visible()
    is_chosen(browser_page, "Random")
    wait_until_idle(browser_page)
    assert "order=random" in browser_page.url and "example=" in browser_page.url


def test_what_has_left_the_page_changes_nothing(seeded: browsing.Server, browser_page: Page) -> None:
    """A run without steps is chosen in place of one with a slider, of which the browser still tells meanwhile."""
    store = open_store(seeded.database, readonly=True)
    one, other = find(store, "shapes-grpo").uid, find(store, "shapes-sft").uid
    store.close()
    line = opened(browser_page, f"{seeded.url}/traces?run={one}&step=3&group=0", "Step")
    browser_page.get_by_role("combobox", name="Run").click()
    option = browser_page.get_by_role("option").filter(has_text="shapes-sft").first
    expect(option).to_be_visible()
    line.is_cut = True
    option.click()
    line.wait_for(lambda: line.is_told(f"run={other}"))
    line.wait_for_a_timer()
    line.wait_for_a_timer()
    line.mend()
    browser_page.wait_for_url(f"**run={other}")
    wait_until_idle(browser_page)
    line.wait_for_a_timer()
    wait_until_idle(browser_page)
    assert line.addresses == [f"run={other}"]


def test_back_goes_back_at_once(seeded: browsing.Server, browser_page: Page) -> None:
    """What the browser's history brings back is a choice like any other, though the server left it before."""
    start = drift(seeded)
    line = opened(browser_page, start)
    line.is_cut = True
    browser_page.keyboard.press("x")
    line.wait_for(lambda: line.is_told("order=random"))
    line.mend()
    browser_page.wait_for_url("**order=random")
    browser_page.go_back()
    is_chosen(browser_page, "Largest drift")
    line.wait_for_a_timer()
    wait_until_idle(browser_page)
    expect(browser_page).to_have_url(start)
