"""Requests to real servers as anybody may send them, and what a provider would have left in a browser."""

from __future__ import annotations

import base64
import json
import os
import urllib.parse
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

from streamlit.web.server.starlette.starlette_app_utils import create_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from app import access
from scripts import browsing
from store.db.engine import Store, open_store
from store.examples import get_examples
from tests import seeded

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
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    connection.close()
    return found


def ask_twice(port: int, path: str, name: str, *values: str, upgrade: bool = False) -> Answer:
    """Asks with a header given once for each value; `upgrade` asks for the web socket."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("GET", path, skip_host=True)
    socket_headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode()}
    own = {} if name == "Host" else {"Host": f"127.0.0.1:{port}"}
    for other, value in (own | (socket_headers | key if upgrade else {})).items():
        connection.putheader(other, value)
    for value in values:
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = Answer(answer.status, {}, b"" if answer.status == 101 else answer.read())
    connection.close()
    return found


def handshake(port: int, **headers: str) -> Answer:
    """Asks for Streamlit's web socket; 101 lets in."""
    key = base64.b64encode(os.urandom(16)).decode()
    socket_headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
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


def cookie(secret: str = SECRET, **user: object) -> str:
    """What signing in leaves in the browser."""
    whole = {"is_logged_in": True, "origin": ORIGIN, "email": "bob@example.org", "email_verified": True} | user
    whole.pop(str(whole.pop("without", "")), None)
    return f"{USER_COOKIE_NAME}={create_signed_value(secret, USER_COOKIE_NAME, json.dumps(whole)).decode()}"


def image_path(server: browsing.Server) -> str:
    store = open_store(server.database, readonly=True)
    return f"/api/media/{get_examples(store, {1})[1].images[0]}"


OURS = ("/api/health", "/api/plotly.min.js", "/api/completions.jsonl")
