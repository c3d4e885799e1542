"""Who may record: real requests to a real server, with the token and without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from importlib import import_module
from pathlib import Path

import pytest

from app import recording
from scripts import browsing
from store.db.engine import Store, open_store
from store.recording import token
from store.runs import list_runs
from tests.pages.doors import Answer, ask, port_of
from tests.store.test_recording import HASH, PICTURE, RECORDS, UID, check_whole, lines

BODY = b"".join(line + b"\n" for line in lines())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    folder = tmp_path_factory.mktemp("doors")
    open_store(f"sqlite:///{folder}/runs.db").close()
    with browsing.serving(f"sqlite:///{folder}/runs.db", folder / "server.log", jobs_end=True) as started:
        yield started


@pytest.fixture(scope="module")
def store(running: browsing.Server) -> Iterator[Store]:
    store = open_store(running.database)
    yield store
    store.close()


def send(port: int, method: str, path: str, body: bytes, **headers: str) -> Answer:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body=body, headers=named)
        answer = connection.getresponse()
        return Answer(answer.status, {}, answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer x", "Basic {}", "{}", "Bearer {}x", "Bearer é"])
def test_without_the_token_nothing_is_taken(given: str, running: browsing.Server, store: Store) -> None:
    headers = {"Authorization": given.format(token.token_of(store))}
    for method, path in (("POST", f"/api/record/{UID}"), ("PUT", f"/api/record/images/{HASH}")):
        answer = send(port_of(running), method, path, BODY, **headers)
        assert answer.status == 401 and b"Record a script" in answer.body
    assert list_runs(store) == []


def test_another_site_may_not_record_whatever_it_knows(running: browsing.Server, store: Store) -> None:
    port, right = port_of(running), {"Authorization": f"Bearer {token.token_of(store)}"}
    path = f"/api/record/{UID}"
    assert send(port, "POST", path, BODY, **right, Origin="https://evil.example").status == 403
    assert send(port, "POST", path, BODY, **right, Sec_Fetch_Site="cross-site").status == 403
    assert send(port, "POST", path, BODY, **right, Host="evil.example").status == 400
    assert list_runs(store) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", f"/api/record/{UID}", b"nothing\n", 422),
        ("POST", f"/api/record/{UID}", json.dumps(RECORDS[0] | {"version": 99}).encode() + b"\n", 422),
        ("POST", "/api/record/..%2f..%2fetc", BODY, 400),
        ("POST", "/api/record/a.b", BODY, 400),
        ("POST", f"/api/record/{UID}?from=-1", BODY, 400),
        ("POST", f"/api/record/{UID}?from=x", BODY, 400),
        ("PUT", f"/api/record/images/{HASH}", b"\x89PNG other bytes", 422),
        ("PUT", "/api/record/images/abc", PICTURE, 400),
        ("DELETE", f"/api/record/{UID}", b"", 405),
    ],
)
def test_what_makes_no_sense_is_refused(
    method: str, path: str, body: bytes, status: int, running: browsing.Server, store: Store
) -> None:
    answer = send(port_of(running), method, path, body, Authorization=f"Bearer {token.token_of(store)}")
    assert answer.status == status, answer.body
    assert list_runs(store) == []


def test_a_body_without_end_is_cut_off(running: browsing.Server, store: Store) -> None:
    connection = HTTPConnection("127.0.0.1", port_of(running), timeout=30)
    connection.putrequest("POST", f"/api/record/{UID}")
    connection.putheader("Authorization", f"Bearer {token.token_of(store)}")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    sent = 0
    try:
        while sent < recording.MAX_JOURNAL_BYTES + 2**24:
            connection.send(b"100000\r\n" + b" " * 2**20 + b"\r\n")
            sent += 2**20
        connection.send(b"0\r\n\r\n")
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server has hung up
    finally:
        connection.close()
    assert list_runs(store) == []


def test_the_file_that_is_handed_out_delivers_here(
    running: browsing.Server, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ask(port_of(running), "/api/vr1z.py").body.decode()
    (tmp_path / "handed_out.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    handed_out = import_module("handed_out")
    assert f"http://127.0.0.1:{port_of(running)}" == handed_out.URL
    dashboard = handed_out.Dashboard()
    answer = dashboard.put(UID, 0, [line + b"\n" for line in lines()])
    assert answer.missing == (HASH,)
    dashboard.put_image(HASH, PICTURE)
    assert dashboard.put(UID, 0, [line + b"\n" for line in lines()]).next == len(RECORDS)
    check_whole(store)
