"""One trace, and the traces of one group, as expandable rows.

A collapsed row shows advantage, reward, components, length and answer; an expanded one also shows the reasoning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from app.shared import format
from app.shared.trace_text import MOST_SHOWN, body, excerpt, visible
from store.completions.summary import is_dead
from store.db.rows import StoredCompletion, StoredPrediction
from store.trace import Form, Trace, parse

STYLE = Path(__file__).with_suffix(".css")

LONGEST_ANSWER = 24
"""Characters of a text answer that are shown."""
Row = StoredCompletion | StoredPrediction


class Summary(NamedTuple):
    """Figures of a group; `right` is None if unknown, `dead` says why all advantages are 0, None if they are not."""

    size: int
    mean: float | None
    std: float | None
    right: int | None
    malformed: int
    dead: str | None

    @property
    def sentence(self) -> str:
        spread = "" if self.mean is None else f" · reward {self.mean:.2g} ± {self.std:.2g}"
        return f"group of {self.size}{spread}" + ("" if self.right is None else f" · {self.right} right")


def summarize(rows: Sequence[Row]) -> Summary:
    """Return mean and sample standard deviation of a group's rewards; rows without a reward are left out."""
    rewards = [row.reward for row in rows if row.reward is not None]
    mean = sum(rewards) / len(rewards) if rewards else None
    std = _deviation(rewards) if rewards else None
    judged = [row.correct for row in rows if row.correct is not None]
    right = sum(judged) if judged else None
    malformed = sum(not row.wellformed for row in rows)
    dead = None
    if is_dead(rows):
        verdicts = {row.correct for row in rows if row.reward is not None}
        dead = "all right" if verdicts == {True} else "all wrong" if verdicts == {False} else "no spread"
    return Summary(len(rows), mean, std, right, malformed, dead)


def _deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))


def head(row: Row, *, strongest: float | None = None) -> str:
    """Return the closed row as inert HTML; `strongest` is the largest absolute advantage of the group."""
    parts = []
    if isinstance(row, StoredCompletion) and row.advantage is not None:
        parts.append(_advantage(row.advantage, strongest))
    if isinstance(row, StoredPrediction):
        parts.append(f'<span class="tv-quiet tv-sample">{f"sample {row.sample}" if row.sample else "greedy"}</span>')
    parts.append(chip(row))
    if row.reward is not None:
        parts.append(f'<span class="tv-number tv-reward">reward <b>{row.reward:.3g}</b></span>')
        parts.append(f'<span class="tv-quiet tv-parts">{_components(row.rewards)}</span>')
    if isinstance(row, StoredPrediction) and row.similarity is not None:
        parts.append(f'<span class="tv-quiet">similarity {row.similarity:.2f}</span>')
    if row.tokens is not None:
        parts.append(f'<span class="tv-quiet tv-tokens">{format.pluralize(row.tokens, "token")}</span>')
    if row.truncated:
        parts.append('<span class="tv-mark" title="Cut off at the token limit.">truncated</span>')
    if not row.wellformed:
        parts.append('<span class="tv-mark">malformed</span>')
    parts.append(f'<span class="tv-excerpt">{excerpt(row.text)}</span>')
    return f"<summary>{''.join(parts)}</summary>"


def chip(row: Row) -> str:
    """Return the answer as a chip: green if right, red if wrong, grey if unknown; `none` without an answer.

    For a text without a required format, return only whether it is right.
    """
    if row.answer is not None:
        text = str(row.answer)
    elif row.answer_span is not None:
        text = excerpt(row.text[slice(*row.answer_span)], LONGEST_ANSWER)
    else:
        text = "" if row.wellformed or row.correct else "none"
    if not text and row.correct is None:
        return ""
    kind = {True: "tv-right", False: "tv-wrong", None: ""}[row.correct]
    sign = {True: "✔ ", False: "✘ ", None: ""}[row.correct]
    return f'<span class="tv-chip {kind}">{(sign + text).strip()}</span>'


def _advantage(value: float, strongest: float | None) -> str:
    share = min(1.0, abs(value) / strongest) * 50 if strongest else 0.0
    side = "tv-up" if value >= 0 else "tv-down"
    bar = f'<span class="tv-bar"><i class="{side}" style="width:{share:.0f}%"></i></span>'
    signed = f"{value:+.2f}".replace("-", "−")
    return f'<span class="tv-number tv-advantage" title="Advantage">A {signed}</span>{bar}'


def _components(rewards: Mapping[str, float | None]) -> str:
    return " · ".join(f"{visible(name)} {'–' if value is None else f'{value:.2g}'}" for name, value in rewards.items())


def trace_html(
    row: Row,
    trace: Trace,
    *,
    opened: bool = False,
    chosen: bool = False,
    limit: int | None = MOST_SHOWN,
    strongest: float | None = None,
    link: str | None = None,
) -> tuple[str, int]:
    """Return an expandable row as inert HTML, and the number of characters left out of its text."""
    body_html = body(trace, limit=limit)
    name = "tv tv-chosen" if chosen else "tv"
    state = " open" if opened or chosen else ""
    # Beside the summary, not in it: a control within a control is out of reach for screen readers.
    own = "" if link is None else f'<a class="tv-link" target="_self" href="{visible(link)}">#{row.id}</a>'
    return (
        f'<details class="{name}"{state}>{head(row, strongest=strongest)}{body_html.html}</details>{own}',
        body_html.hidden,
    )


def show_style() -> None:
    """Load the styles of traces; call it once on a page that shows traces."""
    st.html(STYLE)


def show_trace(
    row: Row,
    style: Form,
    *,
    key: str,
    opened: bool = False,
    chosen: bool = False,
    strongest: float | None = None,
    link: str | None = None,
) -> None:
    """Show a row, with a button that shows the rest of a very long text."""
    is_whole = st.session_state.get(f"{key}-all", False)
    trace_markup, hidden = trace_html(
        row,
        parse(row.text, style),
        opened=opened or is_whole,
        chosen=chosen,
        limit=None if is_whole else MOST_SHOWN,
        strongest=strongest,
        link=link,
    )
    st.html(trace_markup)
    if hidden:
        st.button(f"Show all {len(row.text):,} characters", key=f"{key}-all-button", on_click=_show_all, args=(key,))


def _show_all(key: str) -> None:
    st.session_state[f"{key}-all"] = True
