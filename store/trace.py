"""Parse completions. Rewards, evaluation, imports and all pages share this parser.

`parse` is linear in the length of the text and never raises, whatever a policy writes. White space and word characters
are Python's `\\s` and `\\w` on `str`; digits are ASCII.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

Style = Literal["cot", "direct"]
Form = Literal["cot", "direct", "boxed", "none"]
"""How a text is parsed: by one of our styles, by the last `\\boxed{…}` (other tools), or not at all."""

NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
GRAMMAR: dict[Style, tuple[str, ...]] = {
    "cot": ("<think>", "</think>", "<answer>", "</answer>"),
    "direct": ("<answer>", "</answer>"),
}
"""The tags of a well-formed completion, in order; a body lies between an opening tag and its closing tag."""

BOX = "\\boxed{"
_BRACE = re.compile("[{}]")
_TAG = re.compile("</?(?:think|answer)>")
_OPENED = re.compile(r"<think>\s*\Z")
_LONGEST_BOX = 200
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|boldsymbol|bm|mbox)\s*\{([^{}]*)\}")
_SPACING = re.compile(r"\\[,;:! ]")
_UNKNOWN = re.compile(r"\A[A-Za-z]\s*=\s*")
_EMPHASIZED = re.compile(r"(\*{1,3}|_{1,2}|\$)(.*)\1", re.DOTALL)
_BOXED = re.compile(
    r"([0-9]{1,9}|[0-9]{1,3}(?:,[0-9]{3}){1,2})(?:[.]0+|,0{1,2})?(?:\s+(?!or\b|and\b)[^\W\d_]+){0,3}[.]?"
)
"""`4.0`, `4,0`, `1,234` or `4 red circles`."""
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*([0-9]{1,9})\s*\}\s*\{\s*([0-9]{1,9})\s*\}|([0-9]{1,9})\s*/\s*([0-9]{1,9})")
_NEAR_THE_END = 100
_DIGITS = re.compile("[0-9]{1,9}")
_MARKER = re.compile(r"(?<!\S)(0|[1-9][0-9]*)\.(?!\S)")
_WORD = re.compile(r"\w")
_SOLID = re.compile(r"\S")


class ReasoningStep(NamedTuple):
    """A numbered step in the think body; `start` and `end` span its marker and text in the completion."""

    number: int
    start: int
    end: int
    text: str
    """The text after the marker, trimmed."""
    counted: bool
    why: str | None
    """Why the step does not count: `repeats step 2` or `contains no word`."""


class Violation(NamedTuple):
    """The first violation of the grammar."""

    rule: str
    """The rule that is violated, in words."""
    position: int
    """Index of the offending character, or of the tag's first one; the text's length if the text ends too early."""
    message: str
    """The violation in this text, as a sentence."""


@dataclass(frozen=True)
class Trace:
    """A parsed completion; all spans are (start, end) in `text`."""

    text: str
    style: Form
    wellformed: bool
    think: tuple[int, int] | None
    """The think body of a well-formed completion."""
    answer_span: tuple[int, int] | None
    """The answer body, if `<answer>` and `</answer>` each occur exactly once and in that order."""
    answer: int | None
    reasoning_steps: tuple[ReasoningStep, ...]
    violation: Violation | None

    @property
    def counted_steps(self) -> int:
        return sum(step.counted for step in self.reasoning_steps)

    @property
    def think_text(self) -> str | None:
        return None if self.think is None else self.text[slice(*self.think)]

    @property
    def answer_text(self) -> str | None:
        return None if self.answer_span is None else self.text[slice(*self.answer_span)]


class _Tag(NamedTuple):
    name: str
    start: int
    end: int


def form_of(style: str, grammar: str = "ours") -> Form:
    """Return how texts of a run with this style and grammar are parsed; unknown values mean `cot`."""
    if grammar in ("boxed", "none"):
        return "boxed" if grammar == "boxed" else "none"
    return "direct" if style == "direct" else "cot"


def parse(text: str, style: Form = "cot") -> Trace:
    """Parse a completion of `style`. Violations are reported in the trace and never raised."""
    if style == "none":
        return Trace(text, style, True, None, None, None, (), None)
    if style == "boxed":
        return _parse_boxed(text)
    tags = [_Tag(match.group(), *match.span()) for match in _TAG.finditer(text)]
    violation = _first_violation(text, tags, style)
    wellformed = violation is None
    think = (tags[0].end, tags[1].start) if wellformed and style == "cot" else None
    answer_span = _answer_span(tags)
    return Trace(
        text=text,
        style=style,
        wellformed=wellformed,
        think=think,
        answer_span=answer_span,
        answer=None if answer_span is None else read_count(text[slice(*answer_span)]),
        reasoning_steps=_steps(text, *think) if think else (),
        violation=violation,
    )


def opening(prompt: str) -> str:
    """Return `<think>` and the white space after it if a rendered prompt ends with them; otherwise an empty text.

    The stored text of a completion is this plus the generated text. Only the prompt's last characters are read.
    """
    match = _OPENED.search(prompt[-_NEAR_THE_END:])
    return match.group() if match else ""


def _parse_boxed(text: str) -> Trace:
    """Parse a text whose answer is in the last box, which may contain paired braces."""
    span = None
    if (start := text.rfind(BOX)) >= 0:
        depth = 0
        for match in _BRACE.finditer(text, start):
            depth += 1 if match.group() == "{" else -1
            if not depth:
                span = (start + len(BOX), match.start())
                break
    violation = None
    if span is None:
        violation = Violation(
            "the answer is in a box", len(text), f"There is no {BOX}…}}, or the last one is not closed."
        )
    answer = None if span is None else read_box(text[slice(*span)])
    return Trace(text, "boxed", span is not None, None, span, answer, (), violation)


def read_count(body: str) -> int | None:
    """Parse an answer body as a count: one to nine digits or a word from zero to twenty; a full stop may follow."""
    body = body.strip().removesuffix(".")
    if _DIGITS.fullmatch(body):
        return int(body)
    word = body.lower()
    return NUMBER_WORDS.index(word) if word in NUMBER_WORDS else None


def read_box(body: str) -> int | None:
    """Return the count in a box of LaTeX: a count, or a number as mathematicians write it, with a unit after it."""
    if len(body) > _LONGEST_BOX:
        return None
    text = _WRAPPED.sub(r" \1 ", body)
    text = unemphasized(_UNKNOWN.sub("", _SPACING.sub("", text).replace("{,}", ",").strip().strip("$").strip()))
    if (found := read_count(text)) is not None:
        return found
    if number := _BOXED.fullmatch(text):
        return int(number[1].replace(",", ""))
    if fraction := _FRACTION.fullmatch(text):
        over, under = (int(part) for part in fraction.groups() if part is not None)
        return over // under if under and not over % under else None
    return None


def unemphasized(text: str) -> str:
    """Return a text without the marks of Markdown or LaTeX around it: `4` for `**4**` and `$4$`."""
    for _ in range(3):
        if emphasized := _EMPHASIZED.fullmatch(text):
            text = emphasized[2].strip()
    return text


def _answer_span(tags: list[_Tag]) -> tuple[int, int] | None:
    answers = [tag for tag in tags if tag.name in GRAMMAR["direct"]]
    if [tag.name for tag in answers] != ["<answer>", "</answer>"]:
        return None
    return answers[0].end, answers[1].start


def _first_violation(text: str, tags: list[_Tag], style: Style) -> Violation | None:
    """Check the tags and the text between them from left to right, and return the first violation."""
    expected = GRAMMAR[style]
    end = 0
    for i, expected_tag in enumerate(expected):
        tag = tags[i] if i < len(tags) else None
        gap_end = tag.start if tag else len(text)
        in_body = expected_tag.startswith("</")
        solid = _SOLID.search(text, end, gap_end)
        if solid and not in_body:
            return _stray(text, solid.start(), i, expected)
        if tag is None:
            rule = f"{expected_tag} closes the body" if in_body else f"{expected_tag} comes {_after(i, expected)}"
            return Violation(rule, len(text), f"The text ends before {expected_tag}.")
        if tag.name != expected_tag:
            return _wrong_tag(tag, expected_tag, i, expected)
        if in_body and not solid:
            body = f"{expected[i - 1]}…{expected_tag}"
            return Violation(
                f"{body} holds some text", tag.start, f"There is nothing between {expected[i - 1]} and {expected_tag}."
            )
        end = tag.end
    return _trailing(text, end, expected)


def _after(i: int, expected: tuple[str, ...]) -> str:
    return f"after {expected[i - 1]}" if i else "first"


def _stray(text: str, position: int, i: int, expected: tuple[str, ...]) -> Violation:
    excerpt = repr(text[position : position + 20])
    if i == 0:
        return Violation(
            f"nothing stands before {expected[0]}", position, f"The text begins with {excerpt}, not with {expected[0]}."
        )
    rule = f"only white space stands between {expected[i - 1]} and {expected[i]}"
    return Violation(rule, position, f"{excerpt} stands between {expected[i - 1]} and {expected[i]}.")


def _wrong_tag(tag: _Tag, expected_tag: str, i: int, expected: tuple[str, ...]) -> Violation:
    if tag.name not in expected:
        return Violation("an answer without thinking has no think tags", tag.start, f"{tag.name} does not belong here.")
    if tag.name in expected[:i]:
        return Violation(
            f"{tag.name} occurs once", tag.start, f"{tag.name} occurs a second time, before {expected_tag}."
        )
    return Violation(
        f"the tags come in the order {' '.join(expected)}", tag.start, f"{tag.name} comes before {expected_tag}."
    )


def _trailing(text: str, end: int, expected: tuple[str, ...]) -> Violation | None:
    solid = _SOLID.search(text, end)
    if solid is None:
        return None
    excerpt = repr(text[solid.start() : solid.start() + 20])
    return Violation(f"nothing stands after {expected[-1]}", solid.start(), f"{excerpt} stands after {expected[-1]}.")


def _steps(text: str, start: int, end: int) -> tuple[ReasoningStep, ...]:
    """Return the numbered steps of the think body text[start:end]."""
    body = text[start:end]
    opened: list[re.Match[str]] = []
    for marker in _MARKER.finditer(body):
        # Compared as text: int() fails on a number of thousands of digits.
        if marker.group(1) == str(len(opened) + 1):
            opened.append(marker)
    ends = [marker.start() for marker in opened[1:]] + [len(body)]
    first: dict[str, int] = {}
    steps = []
    for number, (marker, stop) in enumerate(zip(opened, ends, strict=False), start=1):
        words = body[marker.end() : stop].strip()
        earlier = first.setdefault(" ".join(words.casefold().split()), number)
        why = None if earlier == number else f"repeats step {earlier}"
        if not _WORD.search(words):
            why = "contains no word"
        steps.append(ReasoningStep(number, start + marker.start(), start + stop, words, why is None, why))
    return tuple(steps)
