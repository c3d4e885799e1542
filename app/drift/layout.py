"""Helpers for the sections of the Drift page: tables of inert HTML, signed numbers, links to the page itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import streamlit as st

from app.shared import format
from app.shared.trace_text import visible
from trainer.spec.statistics import Estimate

_TAG = re.compile("<[^>]*>")
STYLE = Path(__file__).with_name("drift.css")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, name: str = "") -> str:
    """Return an HTML table; `head` is text, cells are inert HTML, each row's first names it, `name` is a CSS class."""
    looks = [_look([row[place] for row in rows]) for place in range(len(head))]
    lines = [_line(row, looks) for row in rows]
    titles = "".join(f'<th scope="col"{look}>{visible(text)}</th>' for text, look in zip(head, looks, strict=True))
    return f'<div class="dr-wide"><table class="dr {name}"><tr>{titles}</tr>{"".join(lines)}</table></div>'


def _line(row: Sequence[str], looks: Sequence[str]) -> str:
    first, *rest = (f"{look}>{cell}" for cell, look in zip(row, looks, strict=True))
    return f'<tr><th scope="row"{first}</th>' + "".join(f"<td{each}</td>" for each in rest) + "</tr>"


def _look(cells: Sequence[str]) -> str:
    """Return the attribute that aligns a column of numbers to the right."""
    texts = [_TAG.sub("", cell) for cell in cells]
    return ' class="dr-number"' if any(texts) and all(map(format.is_number, texts)) else ""


def single_line(text: str) -> str:
    """Return a cell without line breaks."""
    return f'<span class="dr-n">{visible(text)}</span>'


def format_signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def gain(estimate: Estimate | None, scale: float = 1.0, digits: int = 2) -> str:
    """Return a difference with its interval: −0.25 (−0.26 to −0.25)."""
    if estimate is None:
        return format.UNKNOWN
    value, low, high = (format_signed(scale * part, digits) for part in estimate)
    return f"{value} ({low} to {high})"


def address(**changes: str) -> str:
    """Return a link to this page with some parameters changed, escaped for an attribute."""
    return visible("?" + urlencode({**st.query_params.to_dict(), **changes}))
