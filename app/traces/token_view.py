"""A completion token by token, coloured by the log-probabilities of the policy and its starting point, as inert HTML.

Completions without these measurements can be measured by a job.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import streamlit as st

from app.shared import data, format, intents, status
from app.shared.run_actions import attempt
from app.shared.trace_text import highlighted
from store import trace
from store.completions.tokens import get_tokens
from store.db.engine import Store
from store.db.rows import JobRow, RunDetail, StoredCompletion, StoredTokens, TokenRow
from store.jobs import list_jobs
from store.runs import get_run

MOST_TOKENS = 2000
"""Maximum number of tokens shown; browsers lay out more of them slowly."""
STRONGEST = 0.5
"""Opacity of the strongest colour, on which text is readable in both themes."""
BLUE, ORANGE = "86, 180, 233", "213, 94, 0"
NUMBERS = ("probability", "at start", "change (nats)", "entropy (nats)")
INVISIBLE = "◌"
"""Shown for a token that adds no character: the end token, or part of a character."""


class Colouring(NamedTuple):
    """`value` returns the nats that a token is coloured by; `most` and beyond get the strongest colour."""

    value: Callable[[TokenRow, int], float | None]
    most: float
    low: str
    high: str
    help: str


def _change(tokens: TokenRow, i: int) -> float | None:
    policy, base = tokens.logp[i], tokens.base_logp[i]
    return None if policy is None or base is None else policy - base


COLOURINGS = {
    "Entropy": Colouring(
        lambda tokens, i: tokens.entropy[i],
        2.0,
        "0: certain",
        "2 nats or more",
        "Uncertainty of the model about each token.",
    ),
    "Change": Colouring(
        _change,
        3.0,
        "3 nats or more down",
        "3 nats or more up",
        "Log-probability of a token under the policy minus that under the run's starting policy.",
    ),
}


def token_view(store: Store, run: RunDetail, row: StoredCompletion) -> None:
    """Show the tokens of a measured completion, or a button that measures it if the run has weights."""
    tokens = get_tokens(store, row.id)
    if tokens is not None:
        _strip(run, row, tokens)
        return
    job = _job(store, run, row)
    is_open = job is not None and job.state in status.OPEN
    if is_open:
        st.fragment(_wait, run_every=2.0)(store, row)
    elif data.list_checkpoints(run.id):
        _offer(run, row, job)


def _strip(run: RunDetail, row: StoredCompletion, tokens: StoredTokens) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        by = st.segmented_control(
            "Tokens by", list(COLOURINGS), default="Entropy", key="inspect.tokens", required=True, width="content"
        )
        st.caption(_weights(row, tokens), width="content")
    opened = trace.opening(run.prompt or "")
    start = len(opened) if row.text.startswith(opened) else 0
    st.html(strip(row.text, tokens.tokens, str(by), start))
    with st.expander("Tokens as a table", type="compact"):
        st.dataframe(
            listed(row.text, tokens.tokens, start),
            hide_index=True,
            column_config={name: st.column_config.NumberColumn(format="%.3g") for name in NUMBERS},
            alt="Each token with its probability, the change of its log-probability, and its entropy",
        )


def _weights(row: StoredCompletion, tokens: StoredTokens) -> str:
    if tokens.exact:
        return f"Measured with the weights that sampled it, after {tokens.step} updates."
    sampled = f"it was sampled with the weights after {row.step - 1} updates"
    return f"Retokenized, and measured with the checkpoint of step {tokens.step}; {sampled}."


def strip(text: str, tokens: TokenRow, by: str, opened: int = 0) -> str:
    """Return tokens coloured by one of COLOURINGS, with a legend, as inert HTML.

    The first `opened` characters belong to the prompt and have no colour.
    """
    colouring = COLOURINGS[by]
    count = min(len(tokens.ends), MOST_TOKENS)
    starts = (opened, *tokens.ends)
    spans = [highlighted(text[:opened])] + [
        _token(text[starts[i] : tokens.ends[i]], tokens, i, colouring) for i in range(count)
    ]
    rest = f'<div class="tv-quiet">{len(tokens.ends) - count} more tokens</div>' if count < len(tokens.ends) else ""
    bar = ", ".join(_colour(share) for share in ((-1.0, 0.0, 1.0) if by == "Change" else (0.0, 1.0)))
    legend = f'{colouring.low}<i style="background: linear-gradient(90deg, {bar})"></i>{colouring.high}'
    return f'<div class="tk-legend" title="{colouring.help}">{legend}</div><div class="tk">{"".join(spans)}</div>{rest}'


def listed(text: str, tokens: TokenRow, opened: int = 0) -> dict[str, list[Any]]:
    """Return the tokens and their numbers by column."""
    shown = range(min(len(tokens.ends), MOST_TOKENS))
    starts = (opened, *tokens.ends)
    chances = [[None if p is None else math.exp(min(0.0, p)) for p in each] for each in (tokens.logp, tokens.base_logp)]
    columns = (*chances, [_change(tokens, i) for i in shown], tokens.entropy)
    words = [text[starts[i] : tokens.ends[i]].encode(errors="replace").decode() or INVISIBLE for i in shown]
    return {"token": words} | {name: list(each)[: len(shown)] for name, each in zip(NUMBERS, columns, strict=True)}


def _token(text: str, tokens: TokenRow, i: int, colouring: Colouring) -> str:
    value = colouring.value(tokens, i)
    share = 0.0 if value is None else max(-1.0, min(1.0, value / colouring.most))
    background, title = _colour(share), _numbers(tokens, i)
    return f'<span style="background: {background}" title="{title}">{highlighted(text) or INVISIBLE}</span>'


def _colour(share: float) -> str:
    """Return a colour for -1 (down) to 1 (up)."""
    return f"rgba({BLUE if share >= 0 else ORANGE}, {STRONGEST * abs(share):.2f})"


def _numbers(tokens: TokenRow, i: int) -> str:
    """Return `probability 92 % (at start 31 %) · change +1.09 nats · entropy 0.30 nats`."""
    change, entropy = _change(tokens, i), tokens.entropy[i]
    parts = [
        f"probability {_share(tokens.logp[i])} (at start {_share(tokens.base_logp[i])})",
        "" if change is None else f"change {change:+.2f} nats".replace("-", "−"),
        "" if entropy is None else f"entropy {entropy:.2f} nats",
    ]
    return " · ".join(part for part in parts if part)


def _share(logp: float | None) -> str:
    return "unknown" if logp is None else format.percent(math.exp(min(0.0, logp)))


def _job(store: Store, run: RunDetail, row: StoredCompletion) -> JobRow | None:
    """Return the latest job that measures this completion."""
    jobs = list_jobs(store, run_id=run.id)
    token_jobs = [job for job in jobs if job.kind == "tokens" and job.arguments.get("completion") == row.id]
    return max(token_jobs, key=lambda job: job.id, default=None)


def _wait(store: Store, row: StoredCompletion) -> None:
    job = _job(store, get_run(store, row.run_id), row)
    if job is None or job.state not in status.OPEN:
        st.rerun()
    st.caption(f":material/hourglass_top: Measuring its tokens: {format.literal(job.activity or job.state)}.")


def _offer(run: RunDetail, row: StoredCompletion, job: JobRow | None) -> None:
    if job is not None and job.error:
        st.caption(format.literal(job.error))
    help = (
        "Queues a job that loads the nearest checkpoint and measures each token's entropy and change since the start."
    )
    if st.button("Measure tokens", icon=":material/data_array:", key="inspect.measure", help=help):
        attempt(intents.measure_tokens, run, row)
        st.rerun()
