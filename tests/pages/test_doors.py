"""Who is let in, by real requests to real servers: names, origins, other sites, uploads."""

from __future__ import annotations

import html
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app import server
from scripts import browsing
from tests.pages.doors import (
    OURS,
    ask,
    ask_twice,
    filled,
    handshake,
    image_path,
    port_of,
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    folder = tmp_path_factory.mktemp("open")
    with browsing.serving(filled(folder).url, folder / "server.log", jobs_end=True) as started:
        yield started


@pytest.mark.parametrize("path", ["/", "/_stcore/health", *OURS])
def test_a_request_of_another_site_is_refused_on_every_route(running: browsing.Server, path: str) -> None:
    port = port_of(running)
    for origin in ("https://evil.example", f"http://localhost:{port + 1}", "null", "http://127.0.0.1.evil.example"):
        assert ask(port, path, Host=f"localhost:{port}", Origin=origin).status == 403
    assert ask(port, path, Host=f"localhost:{port}", Origin=f"http://localhost:{port}").status == 200


@pytest.mark.parametrize("path", ["/", "/_stcore/health", *OURS])
def test_a_rebound_name_is_refused_on_every_route(running: browsing.Server, path: str) -> None:
    assert ask(port_of(running), path, Host="evil.example").status == 400
    assert ask(port_of(running), path, Host="localhost.evil.example").status == 400


@pytest.mark.parametrize("name", ["box-8501.proxy.example.net", "192.168.0.7:8501", "<b>x</b>", "", "[::2]:8501"])
def test_another_name_gets_a_sentence_that_says_what_to_do(running: browsing.Server, name: str) -> None:
    port = port_of(running)
    for accept in ("*/*", "text/html,*/*"):
        answer = ask(port, "/", Host=name, Accept=accept)
        words = html.unescape(answer.body.decode())
        assert answer.status == 400 and f"127.0.0.1:{port}" in words
        assert all(each in words for each in ("SSH tunnel", "--sign-in FILE.toml", "docs/threats.md", name))
        assert answer.headers["content-type"].startswith("text/html" if "html" in accept else "text/plain")
        assert accept == "*/*" or b"<b>" not in answer.body


@pytest.mark.parametrize("name", ["127.0.0.1", "LOCALHOST", "localhost:1", "[::1]:8501", "[::1]"])
def test_names_of_this_machine_are_answered_whatever_their_port(running: browsing.Server, name: str) -> None:
    assert ask(port_of(running), "/api/health", Host=name).status == 200


@pytest.mark.parametrize("other", ["evil.example", "127.0.0.1", ""])
def test_two_names_are_refused_in_either_order(running: browsing.Server, other: str) -> None:
    port = port_of(running)
    own = f"127.0.0.1:{port}"
    for path in ("/", *OURS):
        assert ask_twice(port, path, "Host", own).status == 200
        for names in ((own, other), (other, own)):
            assert ask_twice(port, path, "Host", *names).status == 400
    for names in ((own, other), (other, own)):
        assert ask_twice(port, "/_stcore/stream", "Host", *names, upgrade=True).status in (400, 403)


@pytest.mark.parametrize(
    ("name", "own", "other"),
    [
        ("Origin", "http://127.0.0.1:{port}", "https://evil.example"),
        ("Sec-Fetch-Site", "same-origin", "cross-site"),
        ("Authorization", "Bearer x", "Bearer y"),
    ],
)
def test_nothing_that_lets_in_is_given_twice(running: browsing.Server, name: str, own: str, other: str) -> None:
    port = port_of(running)
    own = own.format(port=port)
    for values in ((own, other), (other, own), (own, own)):
        answer = ask_twice(port, "/api/health", name, *values)
        assert (answer.status, b"occurs more than once" in answer.body) == (400, True)
        assert ask_twice(port, "/_stcore/stream", name, *values, upgrade=True).status in (400, 403)


def test_below_a_path_all_routes_are(tmp_path: Path) -> None:
    with browsing.serving(filled(tmp_path).url, tmp_path / "server.log", jobs_end=True, base="/my/runs") as server:
        port = port_of(server)
        for path in ("/", "/find", "/api/health", "/api/plotly.min.js", "/_stcore/health", *OURS):
            assert ask(port, f"/my/runs{path}").status == 200
            assert ask(port, f"/my/runs{path}", Host="evil.example").status == 400
            assert ask(port, f"/my/runs{path}", Origin="https://evil.example").status == 403
        assert ask(port, "/my/runs/runs?tag=demo").headers["location"] == "./?tag=demo"


def test_the_web_socket_is_for_pages_of_this_server_only(running: browsing.Server) -> None:
    port = port_of(running)
    assert handshake(port, Host=f"localhost:{port}", Origin=f"http://localhost:{port}").status == 101
    for origin in ("https://evil.example", f"http://localhost:{port + 1}", "http://127.0.0.1", "null"):
        assert handshake(port, Host=f"localhost:{port}", Origin=origin).status in (403, 404)
    assert handshake(port, Host="evil.example", Origin="http://evil.example").status in (400, 403)


def test_a_tunnel_from_another_port_works(running: browsing.Server) -> None:
    """`ssh -L 9999:localhost:8501`: bytes go through as they are, and the names carry the port of the other end."""
    port = port_of(running)
    with Tunnel(port) as other:
        here = {"Host": f"localhost:{other}", "Origin": f"http://localhost:{other}"}
        assert ask(other, "/api/health", **here).status == 200
        assert ask(other, image_path(running), **here).body.startswith(b"\x89PNG")
        assert handshake(other, **here).status == 101
        assert handshake(other, Host=f"localhost:{other}", Origin=f"http://localhost:{port}").status in (403, 404)


class Tunnel:
    """A local port whose connections end at another one."""

    def __init__(self, port: int) -> None:
        self.to = port
        self.listening = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> int:
        threading.Thread(target=self._serve, daemon=True).start()
        return int(self.listening.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self.listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.to))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        try:
            while piece := one.recv(65536):
                other.sendall(piece)
        except OSError:
            pass
        finally:
            other.close()


@pytest.mark.parametrize("path", ["/", *OURS])
def test_every_answer_says_that_it_is_not_to_be_framed_guessed_or_taken_elsewhere(
    running: browsing.Server, path: str
) -> None:
    headers = ask(port_of(running), path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert "frame-ancestors 'self'" in headers["content-security-policy"]


def test_an_image_can_do_nothing_even_when_it_is_opened_by_itself(running: browsing.Server) -> None:
    headers = ask(port_of(running), image_path(running)).headers
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["content-type"] == "image/png"


@pytest.mark.parametrize("path", ["/api/completions.jsonl?regex=true&q=a", "/api/no-such-route", "/media/x.png"])
@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_what_runs_recorded_goes_to_no_image_frame_or_link_of_another_site(
    running: browsing.Server, path: str, site: str
) -> None:
    for mode, dest in (("no-cors", "image"), ("navigate", "iframe"), ("navigate", "document"), ("cors", "empty")):
        answer = ask(port_of(running), path, Sec_Fetch_Site=site, Sec_Fetch_Mode=mode, Sec_Fetch_Dest=dest)
        assert (answer.status, b"another site" in answer.body) == (403, True)


def test_a_browser_that_shows_the_dashboard_itself_gets_everything(running: browsing.Server) -> None:
    for site in ("none", "same-origin"):
        for path in ("/", *OURS, image_path(running)):
            assert ask(port_of(running), path, Sec_Fetch_Site=site).status == 200
    assert ask(port_of(running), image_path(running)).status == 200  # a program says nothing


def test_a_link_from_elsewhere_may_lead_to_a_page_but_nothing_else_may_use_it(running: browsing.Server) -> None:
    port, fetched = port_of(running), {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert ask(port, "/run", **fetched, Sec_Fetch_Dest="document").status == 200
    assert ask(port, "/run", **fetched, Sec_Fetch_Dest="iframe").status == 403
    assert ask(port, "/run", "POST", **fetched, Sec_Fetch_Dest="document").status == 403
    assert ask(port, "/_stcore/host-config", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors").status == 403


def test_an_image_of_another_site_neither_stops_the_server_nor_fills_its_memory(running: browsing.Server) -> None:
    """Also where a browser is too old to say where a request comes from."""
    port, process = port_of(running), psutil.Process(running.process.pid)
    before = process.memory_info().rss
    bombs = ("a{100000000}", r"(.)\1{9999999}", "((a{1000}){1000}){1000}", r"(\pL{30}){30}", "[^a]{999}")
    for pattern in bombs:
        path = "/api/completions.jsonl?" + urllib.parse.urlencode({"regex": "true", "q": pattern})
        assert ask(port, path).status == 400
        begin = time.monotonic()
        assert ask(port, "/api/health").status == 200
        assert time.monotonic() - begin < 5
    assert process.memory_info().rss - before < 100e6


def test_the_scheme_is_a_part_of_the_origin(running: browsing.Server) -> None:
    port = port_of(running)
    assert ask(port, "/api/health", Host=f"localhost:{port}", Origin=f"https://localhost:{port}").status == 403
    assert handshake(port, Host=f"localhost:{port}", Origin=f"https://localhost:{port}").status in (403, 404)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "OPTIONS"])
def test_no_file_is_taken_whatever_token_comes_with_it(running: browsing.Server, method: str) -> None:
    port = port_of(running)
    token = ask(port, "/_stcore/health").headers["set-cookie"].partition("=")[2].partition(";")[0]
    headers = {"Host": f"localhost:{port}", "Cookie": f"_streamlit_xsrf={token}", "X_Xsrftoken": token}
    answer = ask(port, "/_stcore/upload_file/a/b", method=method, **headers)
    assert (answer.status, answer.body) == (403, b"This server does not accept uploads.")


def test_streamlit_is_told_that_nothing_large_comes() -> None:
    told = server.settings("127.0.0.1", 8501)
    assert told["server.maxUploadSize"] == 1
    assert told["server.maxWidgetStateSize"] <= 2


def test_programs_cannot_drive_the_pages(running: browsing.Server) -> None:
    assert ask(port_of(running), "/_stcore/agent/interact", method="POST").status in (403, 404, 405)
