"""Check every request before it is handled: it must come from our origin and, with sign-in, from a signed-in user.

Streamlit checks its own routes by weaker rules; these apply to all routes, Streamlit's and ours.
"""

from __future__ import annotations

import logging

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config

from app import access, recording, sign_in_page
from app.access import SignIn
from store.db.engine import Store, StoreError

OPEN_PATHS = ("/api/health", "/_stcore/health", *sign_in_page.PATHS)
"""Paths that need no sign-in."""
RECORDED = ("/api/", "/media/")
"""Paths that export recorded data."""
ONCE = ("authorization", "origin", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site")
"""Headers that decide about access; a duplicate is refused, since readers could disagree on which one counts."""
UPLOADS = "/_stcore/upload_file"
HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'self'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
log = logging.getLogger(__name__)


class Guard:
    """ASGI middleware that refuses other sites, uploads, recorders without the token and, with sign-in, strangers.

    It also adds missing security headers.

    A stranger gets one page without scripts: no web socket, no session, nothing that the server would have to keep.
    """

    def __init__(self, app: ASGIApp, store: Store, has_sign_in: bool = False) -> None:
        self.app = app
        self.store = store
        self.has_sign_in = has_sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(HTTPConnection(scope))
        if refusal is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "Reload the page."})
        else:
            await refusal(scope, receive, _with_headers(send))

    def _refusal(self, request: HTTPConnection) -> Response | None:
        try:
            sign_in = access.current_settings() if self.has_sign_in else None
        except StoreError as error:
            log.error("Sign-in is not usable, so all requests are refused: %s", error)
            return PlainTextResponse("Sign-in is misconfigured on this server: see its log.", 503)
        if repeated := next((name for name in ONCE if len(request.headers.getlist(name)) > 1), None):
            return PlainTextResponse(f"The header {repeated} occurs more than once: send it once.", 400)
        path = _inside(request.scope["path"])
        if not is_own_origin(request, sign_in) or not is_own_page(request, path):
            return PlainTextResponse("This request comes from another site: open the dashboard directly.", 403)
        if path.startswith(UPLOADS):
            return PlainTextResponse("This server does not accept uploads.", 403)
        if path.startswith(recording.RECORDS) or (path == recording.FILE and "authorization" in request.headers):
            return recording.refusal(self.store, request)
        if sign_in is None or path in OPEN_PATHS or sign_in.may_read(user := sign_in.user_of(request.cookies)):
            return None
        if path.startswith(RECORDED):
            message, status = (
                ("You do not have access to this.", 403) if user else ("Sign in first: open the start page.", 401)
            )
            return PlainTextResponse(message, status)
        return sign_in_page.page(sign_in, user)


def is_own_origin(request: HTTPConnection, sign_in: SignIn | None = None) -> bool:
    """Return whether the request comes from a page with this scheme, host and port, or from a program without origin.

    Behind a tunnel, both names carry the port of its far end. A proxy that terminates TLS talks http to us, so the
    scheme is taken from the URL in the sign-in file.
    """
    origin, host = request.headers.get("origin"), request.headers.get("host", "").lower()
    scheme = "https" if request.scope["scheme"] in ("https", "wss") else "http"
    is_public_host = sign_in is not None and sign_in.origin.partition("://")[2].lower() == host
    own_origin = sign_in.origin.lower() if sign_in and is_public_host else f"{scheme}://{host}"
    return origin is None or origin.lower() == own_origin


def is_own_page(request: HTTPConnection, path: str) -> bool:
    """Return whether, according to the browser, no other site made the request; links elsewhere may open pages.

    An image or a frame of another site sends no `Origin`, but browsers state its site (`Sec-Fetch-Site`).
    """
    if request.headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    is_link = (
        request.headers.get("sec-fetch-mode") == "navigate" and request.headers.get("sec-fetch-dest") == "document"
    )
    return is_link and request.scope.get("method") == "GET" and not path.startswith(RECORDED)


def _inside(path: str) -> str:
    """Return the path without the prefix under which a proxy serves the dashboard."""
    base = str(config.get_option("server.baseUrlPath") or "").strip("/")
    return path.removeprefix(f"/{base}") if base and path.startswith(f"/{base}/") else path


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
