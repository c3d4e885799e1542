"""What every request must show before anything answers it: a name of ours, an origin of ours, somebody signed in.

Streamlit checks its own routes by laxer rules; these hold for all routes, its own and ours. Knows no route's content.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access import SignIn

OPEN_PATHS = ("/api/health",)
GUARDED = ("/api/", "/media/")
"""Paths that hand out what runs recorded; the pages themselves ask for the sign-in where they begin."""
HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'self'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """ASGI middleware: refuses foreign origins and, with `sign_in`, strangers; adds headers that a route lacks."""

    def __init__(self, app: ASGIApp, sign_in: SignIn | None = None) -> None:
        self.app = app
        self.sign_in = sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        problem = self._problem(HTTPConnection(scope))
        if problem and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": problem[1]})
        elif problem:
            await PlainTextResponse(problem[1], problem[0], HEADERS)(scope, receive, send)
        else:
            await self.app(scope, receive, _with_headers(send))

    def _problem(self, request: HTTPConnection) -> tuple[int, str] | None:
        """Status and sentence of a refusal."""
        if not is_own_origin(request.headers):
            return 403, "This request comes from another site."
        path = request.url.path
        if self.sign_in and path.startswith(GUARDED) and path not in OPEN_PATHS:
            user = self.sign_in.user_of(request.cookies)
            if not self.sign_in.may_read(user):
                return (403, "You may not read this.") if user else (401, "Sign in first, on the first page.")
        return None


def is_own_origin(headers: Headers) -> bool:
    """Whether a page of this very host and port asks; programs that name no origin may ask, too.

    Behind a tunnel both names carry the port of its other end.
    """
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
