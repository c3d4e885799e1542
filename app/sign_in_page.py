"""The page for users who have no access: plain HTML, so that a stranger costs no session."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
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
:root {{ color-scheme: light dark; --page: #f3f5f8; --card: #fff; --text: #1c2330; --line: #d5dae2; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --page: #11151c; --card: #1a212c; --text: #e4e8ee; --line: #313a48; }}
}}
body {{ display: grid; place-items: center; min-height: 100vh; margin: 0; padding: 1rem; box-sizing: border-box;
  font: 1rem/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: var(--text); background: var(--page); }}
main {{ width: 100%; max-width: 26rem; padding: 2rem; box-sizing: border-box; overflow-wrap: anywhere;
  background: var(--card); border: 1px solid var(--line); border-radius: 6px; }}
svg {{ display: block; width: 3rem; }}
h1 {{ margin: 0.5rem 0 0; font-size: 1.5rem; }}
p {{ margin: 0.75rem 0 1.5rem; }}
a {{ display: block; padding: 0.6rem 1rem; border-radius: 6px; font-weight: 600; text-align: center;
  text-decoration: none; color: #fff; background: #0072B2; }}
a:hover, a:focus-visible {{ background: #005a8e; }}
</style></head>
<body><main>{mark}<h1>Vision-R1-Zero</h1><p>{words}</p><a href="{link}">{label}</a></main></body></html>
"""
_MARK = (
    Path(__file__).with_name("favicon.svg").read_text(encoding="utf-8").replace("<svg", '<svg aria-hidden="true"', 1)
)
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
    content = _PAGE.format(mark=_MARK, words=escape(message), link=escape(link), label=label)
    return HTMLResponse(content, status, headers=_HEADERS)
