"""The app at an address, as a visitor's first request finds it."""

from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

MAIN = Path(__file__).resolve().parents[2] / "app/main.py"
FIRST = "runs"
"""The page of the address without a path, which goes by no name."""


def address(page: str, **query: object) -> AppTest:
    """Return the app, not yet run, at a page with these parameters."""
    app = AppTest.from_file(str(MAIN), default_timeout=240)
    for name, value in query.items():
        app.query_params[name] = str(value)
    return app if page == FIRST else app.switch_page(f"../pages/{page}.py")
