"""An example's question and gold answer, shown in the same way on every page, as inert text."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from app.shared import format
from app.shared.trace_text import highlighted
from store.db.rows import StoredExample

SHORT = 40
"""Characters of a gold answer in a badge."""
LONGEST = 20_000
"""Maximum characters of a text that are shown."""


def truth(example: StoredExample) -> str | None:
    """Return the gold answer in a few words; None if unknown."""
    if example.gold is not None and (text := as_text(example.gold)) != str(example.answer):
        line = " ".join(text.split())
        return f"gold answer {line if len(line) <= SHORT else f'{line[:SHORT]}…'}"
    return None if example.answer is None else f"true count {example.answer}"


def show_truth(example: StoredExample) -> None:
    """Show a badge with the gold answer, if known."""
    if text := truth(example):
        st.badge(format.literal(text), color="blue")


def show_rest(example: StoredExample) -> None:
    """Show the full prompt, gold answer and other columns, folded, if they add to the question and the badge."""
    prompt = whole_prompt(example.prompt)
    parts = {
        "Full prompt": prompt if prompt.strip() != example.question.strip() else "",
        "Gold answer": as_text(example.gold) if example.gold is not None and len(as_text(example.gold)) > SHORT else "",
        "Other columns": "\n".join(f"{name}: {as_text(value)}" for name, value in (example.columns or {}).items()),
    }
    for title, text in parts.items():
        if text:
            with st.expander(title, type="compact"):
                cut = "…" if len(text) > LONGEST else ""
                st.html(f'<div class="tv-reference">{highlighted(text[:LONGEST])}{cut}</div>')


def as_text(value: Any) -> str:
    """Return a JSON value as text, strings unchanged."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def whole_prompt(prompt: Any) -> str:
    """Return a prompt as text: its only message, or each message after its role."""
    if not isinstance(prompt, list):
        return "" if prompt is None else as_text(prompt)
    turns = [turn if isinstance(turn, dict) else {"content": turn} for turn in prompt]
    if len(turns) == 1:
        return _content(turns[0])
    return "\n\n".join(f"{turn.get('role', turn.get('from', ''))}: {_content(turn)}" for turn in turns)


def _content(turn: dict[str, Any]) -> str:
    """Return the text of a message; images are shown separately."""
    content = turn.get("content", turn.get("value"))
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    lines = [as_text(text) for text in (*texts, turn.get("tool_calls")) if text is not None]
    return "\n".join(lines)
