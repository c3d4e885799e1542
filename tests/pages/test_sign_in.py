"""Who signs in and who does not, by real requests to a real server and by pages: rights, addresses, the file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from app import access, server
from app.access import SignIn
from app.guard import Guard
from app.shared import data, intents
from scripts import browsing
from store.db.engine import Store, StoreError, open_store
from store.recording import token
from store.runs import list_runs
from tests import seeded
from tests.pages.doors import (
    FILE,
    ORIGIN,
    SECRET,
    ask,
    cookie,
    filled,
    handshake,
    image_path,
    port_of,
    write_sign_in,
)

ROOT = Path(__file__).resolve().parents[2]


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


def test_the_name_that_people_sign_in_at_has_a_scheme(signed: browsing.Server) -> None:
    for origin, status in ((ORIGIN, 200), ("http://runs.example.org", 403), (f"{ORIGIN}:8443", 403)):
        assert ask(port_of(signed), "/api/health", Host="runs.example.org", Origin=origin).status == status
    assert ask(port_of(signed), "/api/health", Host="localhost", Origin=ORIGIN).status == 403


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
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(head.encode() + bytes(size))
            return connection.recv(100).split(b" ")[1]
        except OSError:
            return b""


def test_an_account_that_may_not_look_is_told_why_and_can_sign_out(signed: browsing.Server) -> None:
    for made, words in (
        (cookie(email="eve@example.org"), b"eve@example.org may not view these runs"),
        (cookie(email="<b>eve"), b"&lt;b&gt;eve may not view"),
        (cookie(email_verified="false"), b"Your sign-in provider has not verified bob@example.org"),
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
    assert not app.dataframe and "may not view" in app.text[0].value
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
    app = TestClient(Starlette(routes=server.routes(seeded_store), middleware=[Middleware(Guard, seeded_store, True)]))
    made = {"Cookie": cookie()}
    assert app.get("/api/completions.jsonl", headers=made).status_code == 200
    write_sign_in(tmp_path / "sign-in.toml", FILE[:100])
    answer = app.get("/api/completions.jsonl", headers=made)
    assert (answer.status_code, "see its log" in answer.text) == (503, True)
    (tmp_path / "sign-in.toml").unlink()
    assert app.get("/api/completions.jsonl", headers=made).status_code == 503
    write_sign_in(tmp_path / "sign-in.toml")
    assert app.get("/api/completions.jsonl", headers=made).status_code == 200


@pytest.mark.parametrize("base", ["", "/runs-of-us"])
def test_behind_a_path_of_a_proxy_the_same_doors_stand(
    empty_store: Store, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    def everything(_request: Request) -> Response:
        return Response("inside")

    monkeypatch.setattr("streamlit.config.get_option", lambda name: base if name == "server.baseUrlPath" else None)
    app = TestClient(
        Starlette(routes=[Route("/{path:path}", everything)], middleware=[Middleware(Guard, empty_store, True)])
    )
    assert app.get(f"{base}/api/health").text == "inside"
    assert app.get(f"{base}/api/completions.jsonl").status_code == 401
    assert app.get(f"{base}/media/x").status_code == 401
    assert "Wrong token" in app.post(f"{base}/api/record/x").text
    assert (
        app.get(f"{base}/_stcore/upload_file/a/b", headers={"Cookie": cookie()}).text
        == "This server does not accept uploads."
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


def test_the_token_lets_a_recorder_in_and_nothing_else(signed: browsing.Server) -> None:
    right = token.token_of(open_store(signed.database))
    port, bearer = port_of(signed), {"Authorization": f"Bearer {right}"}
    assert ask(port, "/api/record/x", "POST").status == 401
    assert ask(port, "/api/record/x", "POST", **bearer).status == 200
    assert ask(port, "/api/vr1z.py").status == 401
    assert ask(port, "/api/vr1z.py", Authorization="Bearer guessed").status == 401
    handed_out = ask(port, "/api/vr1z.py", **bearer)
    assert b'URL = "https://runs.example.org"' in handed_out.body and b'TOKEN_FILE = ""' in handed_out.body
    for path in ("/api/completions.jsonl", "/", "/_stcore/host-config"):
        assert b"Sign in" in ask(port, path, **bearer).body


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
    app = AppTest.from_file(str(ROOT / "app/main.py"), default_timeout=240)
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
    assert "eve@example.org may not view" in app.text[0].value


def test_a_reader_sees_runs_and_can_neither_stop_nor_launch(seeded_store: Store, sign_in: SignIn) -> None:
    uid = seeded.find(seeded_store, "shapes-grpo-no-steps").uid
    app = enter("bob@example.org")
    app.button(key=f"stop_{uid}").click().run()
    assert "ask to be added to the writers" in app.toast[0].value
    assert seeded.find(seeded_store, "shapes-grpo-no-steps").status == "running"
    before = len(list_runs(seeded_store))
    app = enter("bob@example.org").switch_page("../pages/launch.py").run()
    next(button for button in app.button if button.label == "Launch").click().run()
    assert "ask to be added to the writers" in app.error[0].value
    next(button for button in app.button if button.label == "Preflight").click().run()
    assert "launch.preflight" not in app.session_state
    assert len(list_runs(seeded_store)) == before


def test_a_writer_may_stop(seeded_store: Store, sign_in: SignIn) -> None:
    uid = seeded.find(seeded_store, "shapes-grpo-no-steps").uid
    enter("ada@example.org").button(key=f"stop_{uid}").click().run()
    assert seeded.find(seeded_store, "shapes-grpo-no-steps").status == "stopping"


def test_every_intent_asks_for_the_right(seeded_store: Store, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access.st, "user", type("Nobody", (), {"to_dict": lambda self: {}})())
    with pytest.raises(StoreError, match="read-only access"):
        data.writer()
    run = seeded.find(seeded_store, "shapes-sft")
    for intent in (intents.resume, intents.delete):
        with pytest.raises(StoreError, match="read-only access"):
            intent(run)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[auth]", "[auth", "cannot be read as TOML"),
        ('client_id = "us"', "", "lacks client_id"),
        (SECRET, "short", "is too short"),
        ("https://runs", "http://runs", "does not use https"),
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
