"""Refuse requests to a host name that is not this server's, and say how to reach it.

Otherwise a page of another site whose name resolves to this server could act for its viewer (DNS rebinding).
"""

from __future__ import annotations

from html import escape

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access import SignIn

LONGEST = 200
"""Characters of a foreign name that are shown."""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Vision-R1-Zero</title>
<style>body {{ font-family: sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem; line-height: 1.5; }}
:root {{ color-scheme: light dark; }}</style></head>
<body><main><h1>Vision-R1-Zero</h1><p>{words}</p></main></body></html>
"""
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


class OwnNames:
    """ASGI middleware: lets requests for `names` through, on any port."""

    def __init__(self, app: ASGIApp, names: list[str], sign_in: SignIn | None = None) -> None:
        self.app = app
        self.names = names
        self.sign_in = sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        hosts = Headers(scope=scope).getlist("host")
        host = ", ".join(hosts)
        if len(hosts) == 1 and self._is_own(host):  # with two names, another reader might use the second
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "Not a name of this server."})
        else:
            await self._refusal(scope, host)(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        name, separator, port = host.rpartition(":")
        return (name if separator and port.isdigit() else host).lower() in self.names

    def _refusal(self, scope: Scope, host: str) -> Response:
        message = refusal(host[:LONGEST], (scope.get("server") or ("", 8501))[1], self.sign_in)
        if "text/html" in Headers(scope=scope).get("accept", ""):
            return HTMLResponse(_PAGE.format(words=escape(message)), 400, headers=_HEADERS)
        return PlainTextResponse(message, 400)


def refusal(host: str, port: int | None, sign_in: SignIn | None) -> str:
    """Return how to reach the server, for a request to another name."""
    mismatch = f"not to “{host}”" if host else "and the request has no host name"
    if sign_in is not None:
        return (
            f"This dashboard answers to {sign_in.host}, {mismatch}: open {sign_in.origin}, or configure the proxy in "
            "front of it to pass on the Host header."
        )
    return (
        f"This dashboard answers only to its own machine, {mismatch}, because anyone who can reach it can start "
        "processes there. Use an SSH tunnel (on your computer: "
        f"ssh -N -L 8501:127.0.0.1:{port} USER@MACHINE, then open "
        "http://127.0.0.1:8501), or require sign-in with --sign-in FILE.toml: see docs/threats.md."
    )
