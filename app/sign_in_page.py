"""The page for users who have no access: plain HTML, so that a stranger costs no session."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from streamlit import config
from streamlit.url_util import make_url_path
from streamlit.user_info import generate_login_redirect_url

from app.access import SignIn

PATH = "/sign-in"
LOG_OUT = "/auth/logout"
PATHS = (PATH, LOG_OUT, "/auth/login", "/oauth2callback")
"""Paths for signing in and out: this page's link, and Streamlit's routes behind it."""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Vision-R1-Zero</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font-family: sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem; line-height: 1.5; }}
a {{ display: inline-block; padding: 0.5rem 1rem; border-radius: 6px; background: #0072B2; color: #fff; }}
</style></head>
<body><h1>Vision-R1-Zero</h1><p>{words}</p><p><a href="{link}">{label}</a></p></body></html>
"""
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
}


def page(sign_in: SignIn, user: Mapping[str, Any]) -> Response:
    """Return the page for signing in, or for signing out of an account without access."""
    if user:
        return _answer(sign_in.refusal(user), LOG_OUT, "Sign out", 403)
    return _answer("Sign in to view these runs.", PATH, "Sign in", 401)


def start(_request: Request) -> Response:
    """Redirect to the provider, by a Streamlit link that is valid for a few minutes."""
    return RedirectResponse(generate_login_redirect_url("default"), 302, headers={"Cache-Control": "no-store"})


def _answer(message: str, path: str, label: str, status: int) -> Response:
    link = make_url_path(str(config.get_option("server.baseUrlPath") or ""), path)
    return HTMLResponse(_PAGE.format(words=escape(message), link=escape(link), label=label), status, headers=_HEADERS)
