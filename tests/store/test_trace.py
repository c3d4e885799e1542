"""The parser of completions: the grammar sentence by sentence, and a second, naive implementation that must agree."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.trace import NUMBER_WORDS, form_of, parse, read_count
from trainer.spec.prompt import Style

FRAGMENTS = (
    *("<think>", "</think>", "<answer>", "</answer>", "<Think>", "<answer", "think>", "</", ">", "<"),
    *("1.", "2.", "3.", "01.", "1.1.", "10.", "0.", "1", "two", "Twenty", ".", " ", "\n", "\u00a0", "\u2003"),
    *("red", "RED", "_", "٣", "İ", "ß", "-1", "3 or 4", "\x00", "\ud83d"),
)
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=25).map("".join)
bodies = st.lists(st.sampled_from(FRAGMENTS[10:]), max_size=12).map("".join)
nearly_good = st.builds("{}<think>{}</think>{}<answer>{}</answer>{}".format, *[bodies | st.just("")] * 5)
good = st.builds("<think>x {}</think>\n<answer>{}</answer>".format, bodies, st.sampled_from(FRAGMENTS[10:]))
styles: st.SearchStrategy[Style] = st.sampled_from(("cot", "direct"))


def think(body: str) -> str:
    return f"<think>{body}</think><answer>3</answer>"


def naive_wellformed(text: str, style: Style) -> bool:
    counts = [text.count(tag) for tag in ("<think>", "</think>", "<answer>", "</answer>")]
    if style == "direct":
        whole = re.fullmatch(r"\s*<answer>(.*)</answer>\s*", text, re.DOTALL)
        return counts == [0, 0, 1, 1] and whole is not None and whole[1].strip() != ""
    whole = re.fullmatch(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", text, re.DOTALL)
    return counts == [1, 1, 1, 1] and whole is not None and "" not in (whole[1].strip(), whole[2].strip())


def naive_answer(text: str) -> int | None:
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return None
    body = text.split("<answer>")[1].split("</answer>")
    if len(body) != 2:
        return None
    word = body[0].strip()
    word = word[:-1] if word.endswith(".") else word
    if 1 <= len(word) <= 9 and all(letter in "0123456789" for letter in word):
        return int(word)
    return {name: count for count, name in enumerate(NUMBER_WORDS)}.get(word.lower())


def naive_steps(body: str) -> list[tuple[int, str, bool]]:
    """(number, text, counted), found word by word instead of by a pattern."""
    found: list[tuple[int, str]] = []
    for part in re.findall(r"\s+|\S+", body):
        if part == f"{len(found) + 1}.":
            found.append((len(found) + 1, ""))
        elif found:
            found[-1] = (found[-1][0], found[-1][1] + part)
    plain = [re.sub(r"\s+", " ", text.casefold()).strip() for _, text in found]
    return [
        (number, text.strip(), bool(re.search(r"\w", text)) and plain[i] not in plain[:i])
        for i, (number, text) in enumerate(found)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "<think>a</think><answer>3</answer>",
        "  \n<think>a</think> \t\n <answer>3</answer>\n",
        "<think>\n1. red\n2. blue\n</think>\n<answer>\n2\n</answer>",
        "<think>a < b > c </ think> <thinking></think><answer>not a number</answer>",
        "<think>.</think><answer>.</answer>",
        "\u2003<think>a</think>\u00a0<answer>3</answer>\x1f",
    ],
)
def test_wellformed(text: str) -> None:
    trace = parse(text)
    assert trace.wellformed and trace.violation is None
    assert trace.think_text is not None and text.count(f"<think>{trace.think_text}</think>") == 1


@pytest.mark.parametrize(
    ("text", "position", "rule"),
    [
        ("", 0, "<think> comes first"),
        ("   ", 3, "<think> comes first"),
        ("There are <think>a</think><answer>3</answer>", 0, "nothing stands before <think>"),
        (" \n3", 2, "nothing stands before <think>"),
        ("<Think>a</think><answer>3</answer>", 0, "nothing stands before <think>"),
        ("</think><answer>3</answer>", 0, "the tags come in the order <think> </think> <answer> </answer>"),
        ("<answer>3</answer>", 0, "the tags come in the order <think> </think> <answer> </answer>"),
        ("<think>a", 8, "</think> closes the body"),
        ("<think>a</THINK><answer>3</answer>", 16, "the tags come in the order <think> </think> <answer> </answer>"),
        ("<think>a<think>b</think><answer>3</answer>", 8, "<think> occurs once"),
        ("<think> \n</think><answer>3</answer>", 9, "<think>…</think> holds some text"),
        ("<think>a</think>", 16, "<answer> comes after </think>"),
        (
            "<think>a</think> so <answer>3</answer>",
            17,
            "only white space stands between </think> and <answer>",
        ),
        ("<think>a</think></think><answer>3</answer>", 16, "</think> occurs once"),
        (
            "<think>a</think></answer>",
            16,
            "the tags come in the order <think> </think> <answer> </answer>",
        ),
        ("<think>a</think><answer>3", 25, "</answer> closes the body"),
        ("<think>a</think><answer> </answer>", 25, "<answer>…</answer> holds some text"),
        ("<think>a</think><answer>3<answer></answer>", 25, "<answer> occurs once"),
        ("<think>a</think><answer>3</answer>.", 34, "nothing stands after </answer>"),
        ("<think>a</think><answer>3</answer> <answer>3</answer>", 35, "nothing stands after </answer>"),
        (
            "<think>I count <</think><answer> top left 2</answer> … </answer>8</answer>",
            53,
            "nothing stands after </answer>",
        ),
    ],
)
def test_the_first_violation_and_where_it_is(text: str, position: int, rule: str) -> None:
    trace = parse(text)
    assert not trace.wellformed and trace.think is None and trace.reasoning_steps == ()
    assert trace.violation is not None
    assert (trace.violation.position, trace.violation.rule) == (position, rule)
    assert trace.violation.message.endswith(".")


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("<answer>3</answer>", None),
        (" <answer> three </answer>\n", None),
        ("<think>a</think><answer>3</answer>", 0),
        ("<answer>3</think></answer>", 9),
        ("It is <answer>3</answer>", 0),
        ("<answer>3</answer> I think", 19),
        ("<answer>\n</answer>", 9),
        ("<answer>3", 9),
        ("3", 0),
    ],
)
def test_the_style_without_thinking(text: str, position: int | None) -> None:
    trace = parse(text, "direct")
    assert trace.wellformed == (position is None)
    assert (trace.violation.position if trace.violation else None) == position
    assert trace.think is None and trace.reasoning_steps == ()


@pytest.mark.parametrize(
    ("body", "count"),
    [
        *(("3", 3), (" 3 ", 3), ("3.", 3), ("\n3.\n", 3), ("007", 7), ("0", 0), ("123456789", 123456789)),
        *(("three", 3), ("Three.", 3), ("ZERO", 0), ("twenty", 20)),
        *(("1234567890", None), ("0000000003", None), ("3..", None), ("3 .", None), (". 3", None), (".", None)),
        *(("3 or 4", None), ("about 3", None), ("3.5", None), ("-1", None), ("", None), ("+3", None), ("3!", None)),
        *(("twenty one", None), ("twentyone", None), ("٣", None), ("³", None), ("3\u0307", None), ("1_000", None)),
    ],
)
def test_what_counts_as_an_answer(body: str, count: int | None) -> None:
    assert read_count(body) == count
    assert parse(f"<answer>{body}</answer>").answer == count


@pytest.mark.parametrize(
    ("text", "answer", "body"),
    [
        ("I guess <answer>3</answer> or so", 3, "3"),
        ("<think><answer>3</answer>", 3, "3"),
        ("<answer><think>3</answer>", None, "<think>3"),
        ("</answer>3<answer>", None, None),
        ("<answer>3</answer><answer>3</answer>", None, None),
        ("<answer>3</answer></answer>", None, None),
        ("<answer>3", None, None),
        ("<Answer>3</Answer>", None, None),
        ("3", None, None),
    ],
)
def test_an_answer_needs_its_two_tags_once_and_in_order(text: str, answer: int | None, body: str | None) -> None:
    trace = parse(text)
    assert (trace.answer, trace.answer_text) == (answer, body)


@pytest.mark.parametrize(
    ("body", "steps"),
    [
        ("1. red 2. blue", ["red", "blue"]),
        ("1. red\n2. blue\n3. star", ["red", "blue", "star"]),
        ("first 1. red", ["red"]),
        ("2. blue 1. red 2. star", ["red", "star"]),
        ("1. red 1. blue 3. star 2. end", ["red 1. blue 3. star", "end"]),
        ("1.red 2. blue", []),
        ("a1. red", []),
        ("(1. red", []),
        ("01. red", []),
        ("1.5 red", []),
        ("1) red", []),
        ("1.. red", []),
        ("-1. red", []),
        ("1. red, 2. blue", ["red,", "blue"]),
        ("1. red 2.", ["red", ""]),
        ("1. 2. 3. a", ["", "", "a"]),
        ("0. red 1. blue", ["blue"]),
        ("\u20031.\u2003red", ["red"]),
        ("1. a 2. b 3. c 4. d 5. e 6. f 7. g 8. h 9. i 10. j 11. k", list("abcdefghijk")),
        ("1" * 5000 + ". red", []),
    ],
)
def test_where_steps_open(body: str, steps: list[str]) -> None:
    trace = parse(think(body))
    assert [step.text for step in trace.reasoning_steps] == steps
    assert [step.number for step in trace.reasoning_steps] == list(range(1, len(steps) + 1))
    for step in trace.reasoning_steps:
        assert trace.text[step.start : step.end].split() == [f"{step.number}.", *step.text.split()]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("1. red 2. blue", [None, None]),
        ("1. red 2. red", [None, "repeats step 1"]),
        ("1. Red  circle 2. blue 3. red\ncircle", [None, None, "repeats step 1"]),
        ("1. STRASSE 2. straße", [None, "repeats step 1"]),
        ("1. a 2. b 3. b 4. b 5. a", [None, None, "repeats step 2", "repeats step 2", "repeats step 1"]),
        ("1. 2. -- 3. …", ["contains no word"] * 3),
        ("1. -- 2. --", ["contains no word"] * 2),
        ("1. _ 2. 7", [None, None]),
    ],
)
def test_which_steps_count(body: str, why: list[str | None]) -> None:
    trace = parse(think(body))
    assert [step.why for step in trace.reasoning_steps] == why
    assert [step.counted for step in trace.reasoning_steps] == [reason is None for reason in why]
    assert trace.counted_steps == why.count(None)


def test_steps_are_spans_of_the_whole_text() -> None:
    trace = parse(" <think>so 1. red 2. blue</think> <answer>2</answer>")
    assert [trace.text[step.start : step.end] for step in trace.reasoning_steps] == ["1. red ", "2. blue"]
    assert trace.think_text == "so 1. red 2. blue"
    assert trace.answer_text == "2"


@settings(max_examples=400, deadline=None)
@given(texts | nearly_good | good, styles)
def test_it_agrees_with_the_naive_implementation(text: str, style: Style) -> None:
    trace = parse(text, style)
    assert trace.wellformed == naive_wellformed(text, style) == (trace.violation is None)
    assert trace.answer == naive_answer(text)
    body = text.split("<think>")[1].split("</think>")[0] if trace.wellformed and style == "cot" else ""
    assert [(step.number, step.text, step.counted) for step in trace.reasoning_steps] == naive_steps(body)


@settings(max_examples=300, deadline=None)
@given(texts | nearly_good, styles)
def test_what_stands_before_a_violation_can_still_become_wellformed(text: str, style: Style) -> None:
    """The position is the first hopeless one: nothing before it is to blame, and it cannot be mended behind it."""
    violation = parse(text, style).violation
    if violation is None:
        return
    whole = "<think>x</think><answer>x</answer>" if style == "cot" else "<answer>x</answer>"
    kept = text[: violation.position]
    assert any(parse(kept + whole[i:], style).wellformed for i in range(len(whole) + 1))
    tag = re.match("</?(?:think|answer)>", text[violation.position :])
    if tag or text[violation.position : violation.position + 1] not in ("", "<"):
        blamed = text[: violation.position + (len(tag[0]) if tag else 1)]
        assert not any(parse(blamed + whole[i:], style).wellformed for i in range(len(whole) + 1))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), styles)
def test_any_text_is_parsed(text: str, style: Style) -> None:
    trace = parse(text, style)
    assert trace.violation is None or 0 <= trace.violation.position <= len(text)


@pytest.mark.parametrize(
    "unit",
    [
        "<think>",
        "<",
        "<thin",
        " ",
        "1. ",
        "0. ",
        "1.1.",
        "<answer>",
        "</answer>",
        "9",
        "<think>1. a</think><answer>3</answer>",
    ],
)
@pytest.mark.parametrize("frame", ["{}", "<think>{}</think><answer>3</answer>", "<answer>{}</answer>"])
def test_a_hostile_text_takes_no_time(unit: str, frame: str) -> None:
    text = frame.format(unit * (100_000 // len(unit)))
    begin = time.process_time()  # a busy machine is no fault of the parser
    parse(text)
    assert time.process_time() - begin < 1


def test_very_many_steps_take_no_time() -> None:
    text = think(" ".join(f"{i}. step {i % 7}" for i in range(1, 10_000)))
    begin = time.perf_counter()
    assert parse(text).counted_steps == 7
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize(
    ("text", "answer", "body"),
    [
        (r"so \boxed{4}", 4, "4"),
        (r"\boxed{1} and \boxed{ seven. }", 7, " seven. "),
        (r"\boxed{\frac{1}{2}}", None, r"\frac{1}{2}"),
        (r"\boxed{$12$}", 12, "$12$"),
        (r"\boxed{4.0}", 4, "4.0"),
        (r"\boxed{\text{4}}", 4, r"\text{4}"),
        (r"\boxed{n = 4}", 4, "n = 4"),
        (r"\boxed{4 \text{ red circles}}", 4, r"4 \text{ red circles}"),
        (r"\boxed{1{,}234}", 1234, "1{,}234"),
        (r"\boxed{3 or 4}", None, "3 or 4"),
        (r"\boxed{4 or five}", None, "4 or five"),
        (r"\boxed{3.5}", None, "3.5"),
        (r"\boxed{-1}", None, "-1"),
        (r"\boxed{4x}", None, "4x"),
        (r"\boxed{\frac{8}{2}}", 4, r"\frac{8}{2}"),
        (r"\boxed{\dfrac{8}{3}}", None, r"\dfrac{8}{3}"),
        (r"\boxed{8/0}", None, "8/0"),
        (r"\boxed{8 / 2}", 4, "8 / 2"),
        (r"\boxed{**4**}", 4, "**4**"),
        (r"\boxed{$**four**$}", 4, "$**four**$"),
        (r"\boxed{n = \mathbf{4}}", 4, r"n = \mathbf{4}"),
        (r"\boxed{4,0}", 4, "4,0"),
        (r"\boxed{4,000}", 4000, "4,000"),
        (r"\boxed{4,5}", None, "4,5"),
        (r"\boxed{4", None, None),
        ("<think>x</think><answer>4</answer>", None, None),
        ("", None, None),
    ],
)
def test_a_box_holds_the_answer(text: str, answer: int | None, body: str | None) -> None:
    trace = parse(text, "boxed")
    assert (trace.answer, trace.answer_text, trace.wellformed) == (answer, body, body is not None)
    assert (trace.violation is None) == trace.wellformed


def test_without_a_grammar_nothing_is_read_and_nothing_is_broken() -> None:
    trace = parse("<think>x</think><answer>4", "none")
    assert (trace.wellformed, trace.answer, trace.think, trace.violation, trace.reasoning_steps) == (
        True,
        None,
        None,
        None,
        (),
    )


@pytest.mark.parametrize(
    ("style", "grammar", "form"),
    [
        *(("cot", "ours", "cot"), ("direct", "ours", "direct"), ("unknown", "ours", "cot")),
        *(("cot", "boxed", "boxed"), ("direct", "none", "none"), ("cot", "another", "cot")),
    ],
)
def test_the_form_follows_from_style_and_grammar(style: str, grammar: str, form: str) -> None:
    assert form_of(style, grammar) == form
