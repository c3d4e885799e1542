"""Who is let in, by real requests to real servers: names, origins, sign-in, rights."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from app import access, data, intents, server
from app.access import SignIn
from app.guard import Guard
from scripts import browsing
from store import read
from store.engine import Store, StoreError, open_store
from tests import seeded

ROOT = Path(__file__).resolve().parents[2]
SECRET = "s" * access.LEAST_SECRET
ORIGIN = "https://runs.example.org"
FILE = f"""
[auth]
redirect_uri = "{ORIGIN}/oauth2callback"
cookie_secret = "{SECRET}"
client_id = "us"
client_secret = "ours"
server_metadata_url = "https://accounts.example.org/.well-known/openid-configuration"
[access]
writers = ["Ada@example.org"]
readers = ["bob@example.org"]
"""


def write_sign_in(path: Path, text: str = FILE) -> None:
    path.touch(0o600)
    path.write_text(text)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(port: int, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    connection.close()
    return found


def handshake(port: int, **headers: str) -> Answer:
    """Asks for Streamlit's web socket; 101 lets in."""
    key = base64.b64encode(os.urandom(16)).decode()
    socket_headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    every = socket_headers | {"Sec_WebSocket_Key": key} | headers
    connection.request("GET", "/_stcore/stream", headers={name.replace("_", "-"): text for name, text in every.items()})
    answer = connection.getresponse()
    connection.close()
    return Answer(answer.status, {}, b"")


def port_of(server: browsing.Server) -> int:
    return urllib.parse.urlsplit(server.url).port or 0


def filled(folder: Path) -> Store:
    store = open_store(str(folder / "runs.db"))
    seeded.examples(store, "train", 1)
    return store


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    folder = tmp_path_factory.mktemp("open")
    with browsing.serving(filled(folder).url, folder / "server.log", jobs_end=True) as started:
        yield started


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    """A server that lets people sign in."""
    folder = tmp_path_factory.mktemp("signed")
    write_sign_in(folder / "sign-in.toml")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = filled(folder).url
    environment = os.environ | {"VR1Z_DATABASE_URL": url, access.VARIABLE: str(folder / "sign-in.toml")}
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.pages.serving", str(port)], cwd=ROOT, env=environment, stderr=output
        )
    server = browsing.Server(f"http://127.0.0.1:{port}", url, log, process)
    try:
        browsing._wait_until_up(server)
        yield server
    finally:
        process.kill()
        process.wait()


def cookie(secret: str = SECRET, **user: object) -> str:
    """What signing in leaves in the browser."""
    whole = {"is_logged_in": True, "origin": ORIGIN, "email": "bob@example.org", "email_verified": True} | user
    whole.pop(str(whole.pop("without", "")), None)
    return f"{USER_COOKIE_NAME}={create_signed_value(secret, USER_COOKIE_NAME, json.dumps(whole)).decode()}"


def image_path(server: browsing.Server) -> str:
    store = open_store(server.database, readonly=True)
    return f"/api/media/{read.examples(store, {1})[1].images[0]}"


OURS = ("/api/health", "/api/plotly.min.js", "/api/completions.jsonl")


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


def test_the_scheme_is_a_part_of_the_origin(running: browsing.Server, signed: browsing.Server) -> None:
    port = port_of(running)
    assert ask(port, "/api/health", Host=f"localhost:{port}", Origin=f"https://localhost:{port}").status == 403
    assert handshake(port, Host=f"localhost:{port}", Origin=f"https://localhost:{port}").status in (403, 404)
    for origin, status in ((ORIGIN, 200), ("http://runs.example.org", 403), (f"{ORIGIN}:8443", 403)):
        assert ask(port_of(signed), "/api/health", Host="runs.example.org", Origin=origin).status == status
    assert ask(port_of(signed), "/api/health", Host="localhost", Origin=ORIGIN).status == 403


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "OPTIONS"])
def test_no_file_is_taken_whatever_token_comes_with_it(running: browsing.Server, method: str) -> None:
    port = port_of(running)
    token = ask(port, "/_stcore/health").headers["set-cookie"].partition("=")[2].partition(";")[0]
    headers = {"Host": f"localhost:{port}", "Cookie": f"_streamlit_xsrf={token}", "X_Xsrftoken": token}
    answer = ask(port, "/_stcore/upload_file/a/b", method=method, **headers)
    assert (answer.status, answer.body) == (403, b"This server takes no files.")


def test_streamlit_is_told_that_nothing_large_comes() -> None:
    told = server.settings("127.0.0.1", 8501)
    assert told["server.maxUploadSize"] == 1
    assert told["server.maxWidgetStateSize"] <= 2


def test_programs_cannot_drive_the_pages(running: browsing.Server) -> None:
    assert ask(port_of(running), "/_stcore/agent/interact", method="POST").status in (403, 404, 405)


def test_strangers_get_nothing_that_runs_recorded(signed: browsing.Server) -> None:
    port = port_of(signed)
    for path in (image_path(signed), "/api/completions.jsonl", "/api/no-such-route", "/media/x.png"):
        assert ask(port, path).status == 401
    assert ask(port, "/api/health").status == 200


def test_a_stranger_gets_a_page_without_a_script_and_nothing_else(signed: browsing.Server) -> None:
    """Neither a web socket, whose session would be kept, nor what Streamlit tells of itself."""
    port = port_of(signed)
    for path in (
        "/",
        "/run",
        "/_stcore/metrics",
        "/_stcore/host-config",
        "/_stcore/script-health-check",
        "//",
        "/x.js",
    ):
        answer = ask(port, path)
        assert (answer.status, b'href="/sign-in"' in answer.body) == (401, True)
        assert b"<script" not in answer.body and "default-src 'none'" in answer.headers["content-security-policy"]
    for made in ({}, {"Cookie": cookie(email="eve@example.org")}, {"Cookie": cookie(secret="x" * access.LEAST_SECRET)}):
        assert handshake(port, **made).status in (403, 404)
    assert handshake(port, Cookie=cookie()).status == 101


def test_strangers_leave_nothing_in_the_memory(signed: browsing.Server) -> None:
    port, process = port_of(signed), psutil.Process(signed.process.pid)
    ask(port, "/")
    before = process.memory_info().rss
    for _ in range(5):
        answer = upload(port, 20_000_000)
        assert answer in (b"", b"403", b"401")
    for _ in range(50):
        handshake(port)
    assert process.memory_info().rss - before < 30e6


def upload(port: int, size: int) -> bytes:
    """Sends a file until the server has had enough; the status that it answers with, if it comes."""
    head = f"PUT /_stcore/upload_file/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            connection.sendall(head.encode() + bytes(size))
            return connection.recv(100).split(b" ")[1]
        except OSError:
            return b""


def test_an_account_that_may_not_look_is_told_why_and_can_sign_out(signed: browsing.Server) -> None:
    for made, words in (
        (cookie(email="eve@example.org"), b"eve@example.org may not look at these runs"),
        (cookie(email="<b>eve"), b"&lt;b&gt;eve may not look"),
        (cookie(email_verified="false"), b"does not say that bob@example.org is a verified address"),
    ):
        answer = ask(port_of(signed), "/", Cookie=made)
        assert (answer.status, words in answer.body, b'href="/auth/logout"' in answer.body) == (403, True, True)


def test_who_signs_in_is_led_to_the_provider(signed: browsing.Server) -> None:
    answer = ask(port_of(signed), "/sign-in")
    assert (answer.status, answer.headers["location"].partition("=")[0]) == (302, "/auth/login?provider")


def test_who_is_taken_out_of_the_file_is_out_at_once(tmp_path: Path, sign_in: SignIn, seeded_store: Store) -> None:
    app = enter("bob@example.org")
    assert app.dataframe
    write_sign_in(tmp_path / "sign-in.toml", FILE.replace("bob@", "carol@"))
    app.run()
    assert not app.dataframe and "may not look" in app.text[0].value
    assert enter("carol@example.org").dataframe


def test_a_part_that_refreshes_asks_again_who_looks(
    seeded_store: Store, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamlit runs it without the page around it."""
    ended: list[bool] = []
    monkeypatch.setattr(access.st, "user", type("Nobody", (), {"to_dict": lambda self: {}})())
    monkeypatch.setattr(access.st, "stop", lambda: ended.append(True))
    data.reader()
    assert ended


def test_a_sign_in_that_broke_meanwhile_lets_nobody_in(tmp_path: Path, sign_in: SignIn, seeded_store: Store) -> None:
    app = TestClient(Starlette(routes=server.routes(seeded_store), middleware=[Middleware(Guard, has_sign_in=True)]))
    made = {"Cookie": cookie()}
    assert app.get("/api/completions.jsonl", headers=made).status_code == 200
    write_sign_in(tmp_path / "sign-in.toml", FILE[:100])
    answer = app.get("/api/completions.jsonl", headers=made)
    assert (answer.status_code, "its log says why" in answer.text) == (503, True)
    (tmp_path / "sign-in.toml").unlink()
    assert app.get("/api/completions.jsonl", headers=made).status_code == 503
    write_sign_in(tmp_path / "sign-in.toml")
    assert app.get("/api/completions.jsonl", headers=made).status_code == 200


@pytest.mark.parametrize("base", ["", "/runs-of-us"])
def test_behind_a_path_of_a_proxy_the_same_doors_stand(
    tmp_path: Path, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    def everything(_request: Request) -> Response:
        return Response("inside")

    monkeypatch.setattr("streamlit.config.get_option", lambda name: base if name == "server.baseUrlPath" else None)
    app = TestClient(Starlette(routes=[Route("/{path:path}", everything)], middleware=[Middleware(Guard, True)]))
    assert app.get(f"{base}/api/health").text == "inside"
    assert app.get(f"{base}/api/completions.jsonl").status_code == 401
    assert app.get(f"{base}/media/x").status_code == 401
    assert (
        app.get(f"{base}/_stcore/upload_file/a/b", headers={"Cookie": cookie()}).text == "This server takes no files."
    )
    assert f'href="{base}/sign-in"' in app.get(f"{base}/run").text


@pytest.mark.parametrize(
    ("made", "status"),
    [
        (cookie(), 200),
        (cookie(email="ADA@example.org"), 200),
        (cookie(email="eve@example.org"), 403),
        (cookie(email_verified=False), 403),
        (cookie(email_verified="false"), 403),
        (cookie(email_verified="False"), 403),
        (cookie(email_verified=None), 403),
        (cookie(email_verified=1), 403),
        (cookie(email_verified="1"), 403),
        (cookie(email_verified=[True]), 403),
        (cookie(email_verified="true"), 200),
        (cookie(without="email_verified"), 403),
        (cookie(is_logged_in=False), 401),
        (cookie(origin="https://evil.example"), 401),
        (cookie(secret="x" * access.LEAST_SECRET), 401),
        (f"{USER_COOKIE_NAME}=forged", 401),
    ],
)
def test_only_readers_see_an_image(signed: browsing.Server, made: str, status: int) -> None:
    assert ask(port_of(signed), image_path(signed), Cookie=made).status == status


def test_the_name_that_people_sign_in_at_is_answered(signed: browsing.Server) -> None:
    assert ask(port_of(signed), "/api/health", Host="runs.example.org").status == 200
    assert ask(port_of(signed), "/api/health", Host="example.org").status == 400


@pytest.fixture
def sign_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SignIn:
    write_sign_in(tmp_path / "sign-in.toml")
    monkeypatch.setenv(access.VARIABLE, str(tmp_path / "sign-in.toml"))
    return access.load(tmp_path / "sign-in.toml")


def enter(email: str | None) -> AppTest:
    """The first page, as somebody sees it who has signed in, or nobody."""
    app = AppTest.from_file(str(ROOT / "app/main.py"), default_timeout=60)
    if email is not None:
        app.user = {"is_logged_in": True, "email": email, "email_verified": True}
    app.run()
    assert not app.exception
    return app


def test_a_stranger_sees_a_sign_in_and_no_run(seeded_store: Store, sign_in: SignIn) -> None:
    app = enter(None)
    assert [button.key for button in app.button] == ["sign_in"]
    assert not app.dataframe


def test_an_account_that_is_not_named_sees_no_run(seeded_store: Store, sign_in: SignIn) -> None:
    app = enter("eve@example.org")
    assert [button.key for button in app.button] == ["sign_out"]
    assert "eve@example.org may not look" in app.text[0].value


def test_a_reader_sees_runs_and_can_neither_stop_nor_launch(seeded_store: Store, sign_in: SignIn) -> None:
    uid = seeded.find(seeded_store, "demo-grpo-no-steps").uid
    app = enter("bob@example.org")
    app.button(key=f"stop_{uid}").click().run()
    assert "change nothing" in app.toast[0].value
    assert seeded.find(seeded_store, "demo-grpo-no-steps").status == "running"
    before = len(read.runs(seeded_store))
    app = enter("bob@example.org").switch_page("../pages/launch.py").run()
    next(button for button in app.button if button.label == "Launch").click().run()
    assert "change nothing" in app.error[0].value
    next(button for button in app.button if button.label == "Preflight").click().run()
    assert "launch.preflight" not in app.session_state
    assert len(read.runs(seeded_store)) == before


def test_a_writer_may_stop(seeded_store: Store, sign_in: SignIn) -> None:
    uid = seeded.find(seeded_store, "demo-grpo-no-steps").uid
    enter("ada@example.org").button(key=f"stop_{uid}").click().run()
    assert seeded.find(seeded_store, "demo-grpo-no-steps").status == "stopping"


def test_every_intent_asks_for_the_right(seeded_store: Store, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access.st, "user", type("Nobody", (), {"to_dict": lambda self: {}})())
    with pytest.raises(StoreError, match="change nothing"):
        data.writer()
    run = seeded.find(seeded_store, "demo-sft")
    for intent in (intents.resume, intents.delete):
        with pytest.raises(StoreError, match="change nothing"):
            intent(run)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[auth]", "[auth", "cannot be read as TOML"),
        ('client_id = "us"', "", "lacks client_id"),
        (SECRET, "short", "can be guessed"),
        ("https://runs", "http://runs", "is not https"),
        ('writers = ["Ada@example.org"]', "", "must name who may launch"),
        ('writers = ["Ada@example.org"]', 'writers = ["*"]', "must name who may launch"),
        ('writers = ["Ada@example.org"]', 'writers = "Ada@example.org"', "must be a list"),
        ("[access]", '[access]\naccept_missing_email_verified = "yes"', "must be true or false"),
    ],
)
def test_a_sign_in_that_would_not_hold_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    write_sign_in(tmp_path / "file.toml", FILE.replace(old, new))
    with pytest.raises(StoreError, match=words):
        access.load(tmp_path / "file.toml")


def test_a_provider_that_never_says_verified_is_believed_where_the_file_says_so(tmp_path: Path) -> None:
    text = FILE.replace("[access]", "[access]\naccept_missing_email_verified = true")
    write_sign_in(tmp_path / "file.toml", text)
    lenient, user = access.load(tmp_path / "file.toml"), {"is_logged_in": True, "email": "bob@example.org"}
    assert lenient.may_read(user) and lenient.may_read(user | {"email_verified": True})
    assert not lenient.may_read(user | {"email_verified": False}) and not lenient.may_read(
        user | {"email_verified": ""}
    )


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602])
def test_a_sign_in_that_other_accounts_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    write_sign_in(tmp_path / "file.toml")
    (tmp_path / "file.toml").chmod(mode)
    with pytest.raises(StoreError, match="run `chmod 600 "):
        access.load(tmp_path / "file.toml")
    (tmp_path / "file.toml").chmod(0o400)
    assert access.load(tmp_path / "file.toml").writers
