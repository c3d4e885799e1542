"""Analyze the texts of completions: does the reasoning lead to the answer, and does it match the image? Pure functions.

For drawn datasets, the scene comes with the example. All figures are counts, so that they can be added up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from store.trace import GRAMMAR, NUMBER_WORDS, Form, Trace, parse
from trainer.datasets.shapes import COLORS, KINDS, WORLDS

MATCHES = ("hit", "repeated", "beside", "invented", "missed")
"""What a step names: a requested object; one that an earlier step has named; one that was not asked for; one that does
not exist. `missed` are requested objects that no step names."""
LONGEST_WORD = 24
_WORD = re.compile(r"[^\W\d_]+")
_TAGS = re.compile("|".join(GRAMMAR["cot"]))
_NUMBER = re.compile(r"\w+")
_ROWS = {row for world in WORLDS.values() for row in world.rows}
_COLUMNS = {column for world in WORLDS.values() for column in world.columns}
_COLUMN = re.compile(r"\b(?:" + "|".join(sorted(_COLUMNS, key=len, reverse=True)) + r")\b")
_KIND_OF = {form: kind for kind in KINDS for form in (kind, f"{kind}s")}


class SceneCompletion(NamedTuple):
    """A completion with its scene (the `objects` of a drawn example), if known."""

    text: str
    objects: Sequence[Mapping[str, Any]] | None


@dataclass
class StepFigures:
    """Figures on some completions of one step."""

    texts: int = 0
    stepped: int = 0
    """Well-formed completions with an answer and at least one step."""
    agreeing: int = 0
    """Those of them whose answer is the number of their last step."""
    early: int = 0
    """Those of them that state their answer before the first step."""
    matched: int = 0
    """Well-formed completions with steps and a known scene."""
    matches: Counter[str] = field(default_factory=Counter)
    """Number of steps, or missed objects, by kind of MATCHES; steps that name no attribute are left out."""
    words: Counter[str] = field(default_factory=Counter)
    """Number of texts that contain a word, by word in lower case."""


def read_step(completions: Sequence[SceneCompletion], style: Form) -> StepFigures:
    """Return the figures on the completions of one step."""
    reading = StepFigures()
    for completion in completions:
        trace = parse(completion.text, style)
        reading.texts += 1
        reading.words.update(distinct_words(completion.text))
        if not trace.reasoning_steps:
            continue
        if trace.answer is not None:
            reading.stepped += 1
            reading.agreeing += trace.answer == trace.reasoning_steps[-1].number
            reading.early += names_answer_early(trace)
        if completion.objects:
            reading.matched += 1
            reading.matches.update(match_objects([step.text for step in trace.reasoning_steps], completion.objects))
    return reading


def distinct_words(text: str) -> set[str]:
    """Return the distinct words of a completion in lower case, without tags."""
    return {word for word in _WORD.findall(_TAGS.sub(" ", text).casefold()) if len(word) <= LONGEST_WORD}


def names_answer_early(trace: Trace) -> bool:
    """Return whether the thinking states the answer, in digits or as a word, before its first step."""
    if trace.think is None or not trace.reasoning_steps or trace.answer is None:
        return False
    names = {str(trace.answer)} | ({NUMBER_WORDS[trace.answer]} if trace.answer < len(NUMBER_WORDS) else set())
    return not names.isdisjoint(_NUMBER.findall(trace.text[trace.think[0] : trace.reasoning_steps[0].start].casefold()))


def match_objects(steps: Sequence[str], objects: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Match steps with the objects of the scene, first come, first served; return counts by kind of MATCHES."""
    targets = [each for each in objects if each["hit"]]
    others = [each for each in objects if not each["hit"]]
    left = list(targets)
    counts: Counter[str] = Counter()
    for step in steps:
        attributes = _attributes(step)
        if not any(attributes):
            continue
        fresh = next((each for each in left if _agrees(attributes, each)), None)
        if fresh is not None:
            left.remove(fresh)
            counts["hit"] += 1
        elif any(_agrees(attributes, each) for each in targets):
            counts["repeated"] += 1
        else:
            counts["beside" if any(_agrees(attributes, each) for each in others) else "invented"] += 1
    counts["missed"] = len(left)
    return counts


def _attributes(step: str) -> tuple[set[str], set[str], set[str], set[str]]:
    """Return the colours, kinds, rows and columns that a step names."""
    text = step.casefold()
    step_words = set(_WORD.findall(text))
    kinds = {kind for form, kind in _KIND_OF.items() if form in step_words}
    return step_words.intersection(COLORS), kinds, step_words.intersection(_ROWS), set(_COLUMN.findall(text))


def _agrees(attributes: tuple[set[str], set[str], set[str], set[str]], scene_object: Mapping[str, Any]) -> bool:
    row, _, column = str(scene_object["position"]).partition(" ")
    values = (scene_object["color"], scene_object["kind"], row, column)
    return all(not names or is_ in names for names, is_ in zip(attributes, values, strict=True))


class Word(NamedTuple):
    """A word and the share of texts that contain it, for each part of training."""

    word: str
    shares: tuple[float, ...]

    @property
    def change(self) -> float:
        return self.shares[-1] - self.shares[0]


def vocabulary(readings: Sequence[StepFigures], *, parts: int = 12, limit: int = 12, least: float = 0.1) -> list[Word]:
    """Return words that appeared or faded, by change: at most `limit` each, whose share changed by at least `least`.

    The readings, in order of training, are split into `parts`.
    """
    size = -(-len(readings) // parts) if readings else 1
    chunks = [readings[start : start + size] for start in range(0, len(readings), size)]
    counts = [sum((reading.words for reading in chunk), Counter[str]()) for chunk in chunks]
    texts = [max(1, sum(reading.texts for reading in chunk)) for chunk in chunks]
    if len(chunks) < 2:
        return []
    every = {word for word in counts[0].keys() | counts[-1].keys()}
    shared = [Word(word, tuple(c[word] / n for c, n in zip(counts, texts, strict=True))) for word in sorted(every)]
    moved = sorted((one for one in shared if abs(one.change) >= least), key=lambda one: one.change, reverse=True)
    up = [one for one in moved if one.change > 0][:limit]
    down = [one for one in moved if one.change < 0][-limit:]
    return [*up, *down]
