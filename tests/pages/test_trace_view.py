"""A trace is shown as it is: every character visible, nothing obeyed, the broken rule where it broke."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from app.shared.trace_text import MOST_SHOWN, body, excerpt, highlighted, visible
from app.shared.trace_view import chip, head, summarize, trace_html
from store.db.rows import StoredCompletion
from store.trace import parse

GOOD = "<think>1. red star top left 2. red star 2 top left 3. ! 4. red star top left</think><answer>2</answer>"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "![a](http://evil.example/pixel.png) [b](javascript:alert(1)) $x$ :red[y]",
    "<think>1. a</think><answer><b>2</b></answer></details></div><style>*{display:none}</style>",
    "\x00\x07\x1b[31m red \x7f\x9f",
    "abc \u202egnp.exe\u202c \u2066x\u2069 \u200f\u200b\ufeff",
    "\ud800 lone surrogate \udfff",
    "שלום 3 עולם",
    "&lt;script&gt; &#60;script&#62;",
)


class Reader(HTMLParser):
    """Collects the elements and the text that a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def a_row(text: str = GOOD, **changes: object) -> StoredCompletion:
    trace = parse(text)
    values: dict[str, object] = {
        "text": text,
        "think": trace.think,
        "answer_span": trace.answer_span,
        "answer": trace.answer,
        "wellformed": trace.wellformed,
        "correct": True,
        "reasoning_steps": trace.counted_steps,
        "tokens": 20,
        "truncated": False,
        "reward": 2.2,
        "rewards": {"format": 1.0, "accuracy": 1.0, "steps": 0.2},
        "generation": 0,
        "group": 0,
        "index": 0,
        "example_id": None,
        "advantage": 0.5,
        "id": 7,
        "run_id": 1,
        "step": 3,
        "example": None,
        "truth": 2,
    }
    return StoredCompletion(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "wrap", ["{}", "<think>1. {} 2. more</think><answer>2</answer>", "<think>ok</think><answer>{}</answer>"]
)
def test_hostile_text_is_inert(text: str, wrap: str) -> None:
    written = wrap.format(text)
    html, _ = trace_html(a_row(written), parse(written), limit=None)
    seen = read(html)
    assert set(seen.tags) <= {"details", "summary", "div", "span", "b", "i", "a"}
    assert {name for name, _ in seen.attributes} <= {"class", "style", "title", "open", "href", "target"}
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", seen.text)
    html.encode("utf-8")


@given(st.text(st.characters(categories=None), max_size=300))
def test_any_text_keeps_its_letters_and_adds_no_element(text: str) -> None:
    seen = read(highlighted(text))
    assert set(seen.tags) <= {"span"}
    assert read(visible(text)).tags == []
    assert [c for c in text if c.isascii() and c.isalnum()] == [
        c for c in re.sub("⟨U\\+[0-9A-F]+⟩", "", seen.text) if c.isascii() and c.isalnum()
    ] or "⟨" in text


def test_a_very_long_line_is_cut_quickly_and_says_how_much_is_left() -> None:
    for text in ("x" * 100_000, "<think>1. " + "y" * 100_000 + "</think><answer>1</answer>", "1. a " * 20_000):
        started = time.perf_counter()
        html, hidden = trace_html(a_row(text), parse(text))
        assert time.perf_counter() - started < 0.5
        assert len(html) < 20 * MOST_SHOWN
        assert 100_000 - 10 * MOST_SHOWN < hidden <= 100_100
        assert trace_html(a_row(text), parse(text), limit=None)[1] == 0


def test_thinking_is_a_column_of_steps_that_says_which_count() -> None:
    html = body(parse(GOOD)).html
    assert html.count('class="tv-step"') == 2
    assert html.count("tv-dim") == 2
    assert "not counted: contains no word" in html
    assert "not counted: repeats step 1" in html
    assert "<b>3</b>" in html


def test_what_stands_before_the_first_step_is_kept() -> None:
    assert "Let me look." in body(parse("<think>Let me look. 1. a</think><answer>1</answer>")).html
    assert "no numbers at all" in body(parse("<think>no numbers at all</think><answer>1</answer>")).html


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("<think>a</think><answer>1</answer> extra", "extra"),
        ("Sure! <think>a</think><answer>1</answer>", "Sure! <think>a</think><answer>1</answer>"),
        ("<think>a</think> so <answer>1</answer>", "so <answer>1</answer>"),
        ("<think>a", "⟨end of text⟩"),
    ],
)
def test_a_violation_is_marked_where_it_is_with_its_rule(text: str, bad: str) -> None:
    trace = parse(text)
    html = body(trace).html
    assert f'<span class="tv-bad">{visible(bad)}</span>' in html
    assert trace.violation is not None
    assert visible(trace.violation.message) in html


def test_a_violation_far_behind_is_still_shown() -> None:
    text = "<think>" + "a " * 20_000 + "</think><answer>1</answer> extra"
    html = body(parse(text)).html
    assert '<span class="tv-bad">extra</span>' in html
    assert len(html) < 20 * MOST_SHOWN


def test_an_answer_that_is_no_number_says_so() -> None:
    assert "3 or 4" in body(parse("<think>a</think><answer>3 or 4</answer>")).html


def test_the_closed_row_tells_what_matters() -> None:
    seen = read(head(a_row(), strongest=1.0)).text
    for part in ("A +0.50", "reward 2.2", "format 1 · accuracy 1 · steps 0.2", "✔ 2", "20 tokens"):
        assert part in seen
    assert "truncated" not in seen
    assert "truncated" in head(a_row(truncated=True))
    assert "malformed" in head(a_row("oops", correct=False))
    assert "tv-down" in head(a_row(advantage=-0.5), strongest=0.5)


def test_the_chip_tells_right_from_wrong_without_colour() -> None:
    assert "✔ 2" in chip(a_row()) and "tv-right" in chip(a_row())
    assert "✘ 2" in chip(a_row(correct=False)) and "tv-wrong" in chip(a_row(correct=False))
    assert "✘ none" in chip(a_row("oops", correct=False))
    assert chip(a_row(correct=None)) == '<span class="tv-chip ">2</span>'


def test_a_group_is_summed_up_and_dead_groups_say_why() -> None:
    rows = [a_row(reward=2.0), a_row(reward=1.0, correct=False), a_row("oops", reward=0.0, correct=False)]
    assert summarize(rows).sentence == "group of 3 · reward 1 ± 1 · 1 right"
    assert summarize(rows).malformed == 1
    assert summarize(rows).dead is None
    assert summarize([a_row(), a_row()]).dead == "all right"
    assert summarize([a_row(correct=False)] * 2).dead == "all wrong"
    assert summarize([a_row(correct=False), a_row()]).dead == "no spread"
    assert summarize([a_row(), a_row(), a_row(reward=None, correct=None)]).dead == "all right"
    assert summarize([a_row()]).dead is None
    assert summarize([a_row(reward=None)]).sentence == "group of 1 · 1 right"


def test_excerpts_are_one_short_line() -> None:
    assert excerpt("a\n\n b   c") == "a b c"
    assert excerpt("x" * 100_000) == "x" * 160 + "…"


def test_the_rest_of_a_long_text_comes_on_demand() -> None:
    def script() -> None:
        from app.shared.trace_view import show_trace
        from tests.pages.test_trace_view import a_row

        show_trace(a_row("<script>" * 2000), "cot", key="t")

    page = AppTest.from_function(script).run()
    assert not page.exception
    assert "16,000" in page.button[0].label
    page.button[0].click().run()
    assert not page.exception
    assert not page.button
    assert page.html[0].value.count("&lt;script&gt;") > 1999
