"""Model output as inert HTML.

Every character of a completion passes through `visible`: markup is escaped, and characters that a browser would hide
or interpret (control characters, direction marks, zero-width characters) are spelt out.
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple

from store.trace import ReasoningStep, Trace

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
MOST_SHOWN = 1500
"""Characters of a completion shown before "Show all"."""
SPOT = 80
"""Maximum characters underlined from the one that broke the grammar; browsers draw wavy lines slowly."""


class Body(NamedTuple):
    """Inert HTML of a completion; `hidden` characters were left out at the end."""

    html: str
    hidden: int


def visible(text: str) -> str:
    """Return text escaped for HTML content or attributes; newlines survive reformatting."""
    return html.escape(HIDDEN.sub(_code_point, text)).replace("\n", "&#10;")


def highlighted(text: str) -> str:
    """Return text like `visible`, for HTML content, with spelt-out characters highlighted."""
    parts, end = [], 0
    for match in HIDDEN.finditer(text):
        parts.append(visible(text[end : match.start()]))
        parts.append(f'<span class="tv-hidden">{_code_point(match)}</span>')
        end = match.end()
    return "".join(parts) + visible(text[end:])


def _code_point(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"


def excerpt(text: str, length: int = 160) -> str:
    """Return the beginning of a text on one line, escaped, with an ellipsis if it is longer."""
    line = " ".join(text[: 4 * length].split())
    more = len(line) > length or len(text) > 4 * length
    return visible(line[:length]) + ("…" if more else "")


def body(trace: Trace, *, limit: int | None = MOST_SHOWN) -> Body:
    """Return a completion's HTML, of at most `limit` characters (None: all).

    Well-formed reasoning is shown as a column of steps; anything else as raw text, underlined from the character that
    broke the grammar, with the violated rule.
    """
    shown = (
        (_thinking(trace, limit) if trace.think else _direct(trace, limit)) if trace.wellformed else _raw(trace, limit)
    )
    return Body(f'<div class="tv-body">{shown.html}{_no_number(trace)}</div>', shown.hidden)


def _thinking(trace: Trace, limit: int | None) -> Body:
    assert trace.think is not None
    start, end = trace.think
    stop = end if limit is None else min(end, start + limit)
    first = min([step.start for step in trace.reasoning_steps] + [end])
    rows = [_plain(trace.text[start : min(first, stop)])]
    rows += [_step(trace, step, stop) for step in trace.reasoning_steps if step.start < stop]
    return Body("".join(rows), end - stop)


def _direct(trace: Trace, limit: int | None) -> Body:
    shown = trace.text[:limit]
    return Body(_plain(shown), len(trace.text) - len(shown))


def _no_number(trace: Trace) -> str:
    is_counted = trace.style in ("cot", "direct")
    if not is_counted or not trace.wellformed or trace.answer is not None or trace.answer_span is None:
        return ""
    answer = trace.text[slice(*trace.answer_span)]
    return f'<div class="tv-rule">✘ the answer “{excerpt(answer, 60)}” is not one whole number</div>'


def _plain(text: str) -> str:
    return f'<div class="tv-plain">{highlighted(text.strip())}</div>' if text.strip() else ""


def _step(trace: Trace, step: ReasoningStep, stop: int) -> str:
    text = trace.text[step.start : min(step.end, stop)].strip().removeprefix(f"{step.number}.").strip()
    why = "" if step.counted else f'<span class="tv-why">not counted: {visible(step.why or "")}</span>'
    name = "tv-step" if step.counted else "tv-step tv-dim"
    return f'<div class="{name}"><b>{step.number}</b><span class="tv-text">{highlighted(text)}{why}</span></div>'


def _raw(trace: Trace, limit: int | None) -> Body:
    text, violation = trace.text, trace.violation
    position = min(violation.position, len(text)) if violation else len(text)
    stop = len(text) if limit is None else min(len(text), max(limit, position + 200))
    start = 0 if limit is None or position < limit else position - limit // 2
    before = "…" if start else ""
    spot = position + SPOT
    good, bad, rest = (
        highlighted(text[start:position]),
        highlighted(text[position:spot]),
        highlighted(text[spot:stop]),
    )
    wrong = f'<span class="tv-bad">{bad or "⟨end of text⟩"}</span><span class="tv-rest">{rest}</span>'
    rule = f'<div class="tv-rule">✘ {visible(violation.message)}</div>' if violation else ""
    return Body(f'<div class="tv-raw">{before}{good}{wrong}</div>{rule}', len(text) - min(stop, len(text)) + start)
