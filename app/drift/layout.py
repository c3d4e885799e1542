"""Helpers for the sections of the Drift page: tables of inert HTML, signed numbers, links to the page itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import streamlit as st

from app.shared import format
from app.shared.trace_text import visible
from trainer.spec.statistics import Estimate

STYLE = Path(__file__).with_name("drift.css")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, name: str = "") -> str:
    """Return an HTML table; `head` is text, cells are inert HTML, `name` is a CSS class."""
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    titles = "".join(f'<th scope="col">{visible(text)}</th>' for text in head)
    return f'<div class="dr-wide"><table class="dr {name}"><tr>{titles}</tr>{"".join(lines)}</table></div>'


def whole(text: str) -> str:
    """Return a cell without line breaks."""
    return f'<span class="dr-n">{visible(text)}</span>'


def signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def gain(estimate: Estimate | None, scale: float = 1.0, digits: int = 2) -> str:
    """Return a difference with its interval: −0.25 (−0.26 to −0.25)."""
    if estimate is None:
        return format.UNKNOWN
    value, low, high = (signed(scale * part, digits) for part in estimate)
    return f"{value} ({low} to {high})"


def address(**changes: str) -> str:
    """Return a link to this page with some parameters changed, escaped for an attribute."""
    return visible("?" + urlencode({**st.query_params.to_dict(), **changes}))
