"""Finding completions: filters, orders, pages by key, texts within a time, tags and notes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from store.completions.find import (
    LATEST,
    ORDERS,
    Order,
    TraceFilter,
    count_found,
    find_completions,
    iter_found,
    scan_completions,
)
from store.completions.patterns import LONGEST_PATTERN, Matcher, containing, matching
from store.completions.rows import get_completion
from store.db.engine import Store, StoreError, reading
from store.db.rows import StoredCompletion
from store.evaluations.predictions import list_predictions
from store.evaluations.records import begin_evaluation, record_predictions
from store.examples import add_examples
from store.notes import Remarks, get_remarks, list_trace_tags, note_trace, tag_traces, untag_trace
from store.runs import delete_run
from store.steps import record_step, truncate_after
from tests.store import make
from tests.store.make import sqlite_only

CATASTROPHES = ["(a+)+$", "(a|aa)+$", r"(\w+\s?)*$", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"\w+" * 40 + "!"]


@pytest.fixture
def filled(store: Store) -> Store:
    """Two runs of 30 steps with 4 completions each, some without a reward or a token count."""
    dice = random.Random(1)
    ids = add_examples(store, [make.example(key) for key in "abc"])
    for name in ("one", "two"):
        run = make.run(store, name)
        for step in range(1, 31):
            rows = [
                make.completion(
                    index,
                    text=f"{name} says {step} and {index}: ÄPFEL" if step % 7 == 0 else "1. red 2. blue",
                    example_id=dice.choice(ids),
                    answer=dice.choice((None, 1, 2, 3)),
                    correct=dice.choice((True, False, None)),
                    wellformed=dice.random() < 0.5,
                    truncated=dice.random() < 0.2,
                    reasoning_steps=dice.randrange(5),
                    tokens=dice.choice((None, 5, 10, 20)),
                    reward=dice.choice((None, 0.0, 0.5, 1.0, 2.0)),
                )
                for index in range(4)
            ]
            record_step(store, run.id, step, {}, at=float(step), completions=rows)
    return store


def everything(store: Store) -> list[StoredCompletion]:
    return list(iter_found(store, TraceFilter()))


FILTERS = {
    "all": (TraceFilter(), lambda row: True),
    "run": (TraceFilter(run_id=2), lambda row: row.run_id == 2),
    "steps": (TraceFilter(step=(3, 9)), lambda row: 3 <= row.step <= 9),
    "reward": (TraceFilter(reward=(0.5, 1.0)), lambda row: row.reward in (0.5, 1.0)),
    "length": (TraceFilter(tokens=(10, None)), lambda row: row.tokens in (10, 20)),
    "reasoning": (TraceFilter(reasoning_steps=(None, 1)), lambda row: row.reasoning_steps <= 1),
    "wrong": (TraceFilter(correct=False), lambda row: row.correct is False),
    "malformed": (TraceFilter(wellformed=False), lambda row: not row.wellformed),
    "cut off": (TraceFilter(truncated=True), lambda row: row.truncated),
    "example": (TraceFilter(example_id=2), lambda row: row.example_id == 2),
    "answer": (TraceFilter(run_id=1, answer=3), lambda row: row.answer == 3 and row.run_id == 1),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_leaves_what_it_says(filled: Store, name: str) -> None:
    wanted, is_kept = FILTERS[name]
    kept = [row.id for row in everything(filled) if is_kept(row)]
    assert kept
    assert {row.id for row in iter_found(filled, wanted)} == set(kept)
    assert count_found(filled, wanted) == len(kept)


@pytest.mark.parametrize("by", ORDERS)
@pytest.mark.parametrize("descending", [True, False])
def test_pages_bring_everything_once_and_in_order(filled: Store, by: str, descending: bool) -> None:
    order, pages, after = Order(by, descending), [], None
    while True:
        page = find_completions(filled, TraceFilter(run_id=1), order, after=after, limit=7)
        pages += page.rows
        after = page.after
        if after is None:
            break
    assert sorted(row.id for row in pages) == sorted(row.id for row in everything(filled) if row.run_id == 1)
    values = [getattr(row, by) for row in pages]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=descending)
    assert values == known + [None] * (len(values) - len(known)), "what has no value comes last"


@sqlite_only
def test_filters_and_orders_read_the_index_alone(filled: Store) -> None:
    wanted = "reward >= 1 AND correct IS 1 AND tokens > 3 AND truncated IS 0 AND wellformed IS 1 AND answer = 3"
    order = "reasoning_steps DESC, id DESC"
    sql = f"EXPLAIN QUERY PLAN SELECT reasoning_steps, id FROM completion WHERE {wanted} ORDER BY {order} LIMIT 9"
    with reading(filled) as connection:
        plan = [row[3] for row in connection.execute(text(sql))]
    assert any("COVERING INDEX ix_completion_facets" in line for line in plan), plan


def found(store: Store, wanted: TraceFilter, matches: Matcher, order: Order = LATEST) -> list[StoredCompletion]:
    return [get_completion(store, id) for id in scan_completions(store, wanted, matches, order) if id is not None]


def test_a_text_is_found_in_any_case(filled: Store) -> None:
    assert {row.step for row in found(filled, TraceFilter(run_id=1), containing("äpfel"))} == {7, 14, 21, 28}
    assert len(list(scan_completions(filled, TraceFilter(run_id=1), containing("äpfel")))) == 120
    rows = found(filled, TraceFilter(), matching(r"two says (7|14)\b.*3"))
    assert [(row.step, row.index) for row in rows] == [(14, 3), (7, 3)]


def test_a_scan_keeps_to_the_order_and_goes_on_after_a_pause(filled: Store) -> None:
    order = Order("reward", True)
    whole = [row.id for row in iter_found(filled, TraceFilter(), order)]
    going = scan_completions(filled, TraceFilter(), containing(""), order)
    first = [next(going) for _ in range(50)]
    record_step(filled, 2, 31, {}, at=31.0, completions=[make.completion(0, reward=None)])
    assert first + list(going) == whole


def test_a_scan_leaves_out_what_is_gone_meanwhile(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.completions.find.CHUNK", 10)
    going = scan_completions(filled, TraceFilter(), containing(""), Order("step", False))
    assert next(going) is not None
    truncate_after(filled, 1, 0)
    assert len(list(going)) < 239 - 100


@pytest.mark.parametrize("pattern", CATASTROPHES)
def test_what_other_engines_never_end_with_takes_no_time(pattern: str) -> None:
    matches = matching(pattern)
    start = time.monotonic()
    matches("a" * 5000 + " ! " + "ab " * 30_000 + "\n")
    assert time.monotonic() - start < 1


def test_an_expression_that_is_slow_all_the_same_is_given_up_and_lets_others_run_meanwhile() -> None:
    matches, ticks, over = matching("(a|b)*a(a|b){500}c"), [time.monotonic()], threading.Event()

    def tick() -> None:
        while not over.wait(0.01):
            ticks.append(time.monotonic())

    other = threading.Thread(target=tick)
    other.start()
    with pytest.raises(StoreError, match="Simplify it"):
        matches("".join(random.Random(1).choices("ab", k=100_000)))
    over.set()
    other.join()
    assert time.monotonic() - ticks[0] < 20
    assert max(later - sooner for sooner, later in pairwise(ticks)) < 1


@pytest.mark.parametrize("pattern", ["(", "[a", "(?P<a>x)(?P<a>", "*", "a{2}{3}(?<", "x" * (LONGEST_PATTERN + 1)])
def test_what_is_no_expression_says_so(pattern: str) -> None:
    with pytest.raises(StoreError, match=r"check the syntax|Shorten it|not supported"):
        matching(pattern)


BOMBS = {
    "a{100000000}": "the limit is 1,000",
    r"(.)\1{9999999}": "back-references are not supported",
    "((a{1000}){1000}){1000}": "the limit is 1,000",
    "(((((((((((a{2}){2}){2}){2}){2}){2}){2}){2}){2}){2}){2})": "the limit is 1,000",
    r"(\pL{30}){30}": "too large",
    r"(\pL?\PN?){499}": "too large",
    "[^a]{999}": "too large",
    "(?=a{1000})": "look-around",
    "(?R)?a": "look-around",
    "(?i)" + r"\pL" * 70: "too large",
}
IN_LITTLE = """
import json, resource, sys
from store.db.connection import StoreError
from store.completions.patterns import matching
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
before = resource.getrusage(resource.RUSAGE_SELF)
said = []
for pattern in json.load(sys.stdin):
    try:
        matching(pattern)
    except StoreError as error:
        said.append(str(error))
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([said, after.ru_utime - before.ru_utime, (after.ru_maxrss - before.ru_maxrss) / 1024]))
"""


def test_an_expression_that_fills_the_memory_is_refused_before_it_does() -> None:
    """In a process of its own: what these did to others could not be interrupted."""
    asked = json.dumps(list(BOMBS))
    ended = subprocess.run([sys.executable, "-c", IN_LITTLE], input=asked, capture_output=True, text=True, check=True)
    said, seconds, megabytes = json.loads(ended.stdout)
    assert len(said) == len(BOMBS)
    assert not [
        (sentence, words) for sentence, words in zip(said, BOMBS.values(), strict=True) if words not in sentence
    ]
    assert seconds < 3 and megabytes < 64


def test_expressions_that_were_compiled_are_not_kept() -> None:
    for number in range(300):
        matching(f"[^a]{{200}}{number}")("b" * 100)
    assert re2._Regexp._make.cache_info().currsize == 0


@given(pattern=st.text("ab.(){}[]*+?|\\^$:<=!,-0129pLwdsN", max_size=60), searched=st.text(max_size=50))
def test_any_text_is_an_expression_or_refused_in_a_sentence(pattern: str, searched: str) -> None:
    try:
        matching(pattern)(searched)
    except StoreError as error:
        assert str(error).endswith(".")


def test_pages_stay_right_while_completions_arrive(filled: Store) -> None:
    first = find_completions(filled, TraceFilter(run_id=1), limit=10)
    record_step(filled, 1, 31, {}, at=31.0, completions=[make.completion(0)])
    second = find_completions(filled, TraceFilter(run_id=1), after=first.after, limit=10)
    assert not {row.id for row in first.rows} & {row.id for row in second.rows}
    assert {row.step for row in second.rows} <= {26, 27, 28}


def test_tags_and_notes_stay_with_their_trace(filled: Store) -> None:
    tag_traces(filled, "completion", [3, 5, 3], " odd ")
    tag_traces(filled, "completion", [5], "odd")
    tag_traces(filled, "completion", [5], "<b>nice</b>")
    note_trace(filled, "completion", 5, "first")
    note_trace(filled, "completion", 5, " counts the border \0")
    assert get_remarks(filled, "completion", [3, 4, 5]) == {
        3: Remarks(("odd",)),
        5: Remarks(("<b>nice</b>", "odd"), "counts the border \ufffd"),
    }
    assert {row.id for row in iter_found(filled, TraceFilter(tag="odd"))} == {3, 5}
    assert list_trace_tags(filled) == ["<b>nice</b>", "odd"]
    untag_trace(filled, "completion", 5, "odd")
    note_trace(filled, "completion", 5, " ")
    assert get_remarks(filled, "completion", [5]) == {5: Remarks(("<b>nice</b>",))}


def test_predictions_have_tags_of_their_own(filled: Store) -> None:
    evaluation = begin_evaluation(
        filled, 1, benchmark="b", split="val", kind="val", step=1, conditions={}, encoder=None, total=1
    )
    record_predictions(filled, evaluation, [make.prediction(1)])
    [prediction] = list_predictions(filled, evaluation)
    tag_traces(filled, "prediction", [prediction.id], "odd")
    note_trace(filled, "prediction", prediction.id, "why?")
    assert get_remarks(filled, "prediction", [prediction.id]) == {prediction.id: Remarks(("odd",), "why?")}
    assert count_found(filled, TraceFilter(tag="odd")) == 0
    delete_run(filled, 1)
    assert list_trace_tags(filled) == []


def test_a_step_that_is_recorded_again_takes_its_remarks_with_it(filled: Store) -> None:
    ids = [row.id for row in iter_found(filled, TraceFilter(run_id=1, step=(5, 5)))]
    tag_traces(filled, "completion", ids, "odd")
    note_trace(filled, "completion", ids[0], "why?")
    record_step(filled, 1, 5, {}, at=5.0, completions=[make.completion(0)])
    assert (list_trace_tags(filled), get_remarks(filled, "completion", ids)) == ([], {})


@pytest.mark.parametrize("name", ["", "  ", "x" * 101])
def test_a_tag_that_cannot_be_is_refused(filled: Store, name: str) -> None:
    with pytest.raises(StoreError, match="1 to 100 characters"):
        tag_traces(filled, "completion", [1], name)


def test_a_tag_for_a_completion_that_is_gone_is_refused_in_words(filled: Store) -> None:
    with pytest.raises(StoreError, match="no longer"):
        tag_traces(filled, "completion", [99_999], "odd")
