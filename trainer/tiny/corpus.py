"""The text of pre-training: telegraphic captions, loosely formatted answers, echoes of words.

This is all that the base model knows; the model card quotes it. The reference style of
`trainer/datasets/shapes_text.py` is left out on purpose: its words occur (in echoes), its sentences do not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from store.trace import NUMBER_WORDS
from trainer.datasets import shapes, shapes_text
from trainer.datasets.shapes import Question, Scene, Shape
from trainer.spec import prompt

DIFFICULTY_SHARES = {"simple": 0.84, "complex": 0.09, "hard": 0.07}
STAGES = {
    "first": (0.10, 0.40, 0.15, 0.17, 0.05, 0.045, 0.035, 0.05),
    "second": (0.06, 0.45, 0.10, 0.24, 0.02, 0.04, 0.05, 0.04),
}
"""Shares of the forms of `answer_text`; about one answer in twelve is well-formed. The second stage has more lists."""
EASY_SHARE = {"first": 1.0, "second": 0.5}
"""Questions by colour alone or about all objects are learnt first; the second stage keeps this share of them."""
CAPTION_SHARE = 0.10
ECHO_SHARE = 0.06


class Document(NamedTuple):
    """One pre-training text: the user's turn, the assistant's turn and the scene that both are about."""

    scene: Scene
    user: str
    assistant: str


def enumeration(hits: Sequence[Shape]) -> str:
    return " ".join(f"{i}. {o.color} {o.kind} {o.position}" for i, o in enumerate(hits, 1))


def caption(scene: Scene) -> str:
    return "; ".join(f"{o.position}: {o.color} {o.kind}" for o in scene.objects)


def answer_text(question: Question, hits: Sequence[Shape], shares: Sequence[float], rng: random.Random) -> str:
    """Return an answer in one of the base's loose forms; `shares` are those of `STAGES`."""
    n, listed = len(hits), enumeration(hits)
    counted = f"{listed} so {n}" if hits else f"none so {n}"
    forms = (
        f"{n}",
        counted,
        f"<answer>{n}</answer>",
        f"<think>{counted}",
        f"<think>the {question.noun}</think>{n}",
        f"<think>I count {n}</think><answer>{n}</answer>",
        f"<think>{counted}</think><answer>{n}</answer>",
        f"{counted}</think>",
    )
    return rng.choices(forms, weights=shares)[0]


def user_text(question: Question, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.4:
        return f"{question.text} {prompt.INSTRUCTIONS['cot']}"
    return question.text if chance < 0.9 else f"{question.text} {prompt.INSTRUCTIONS['direct']}"


def word_list() -> list[str]:
    """Return every word of the reference style, for echoes: the words are known, their sentences are not."""
    texts = [
        t.replace("{items}", "").replace("{noun}", "").replace("{count}", "")
        for t in (*shapes_text.OPENERS, *shapes_text.CLOSERS, *shapes_text.NONE_FOUND)
    ]
    places = [shapes_text.place(row, col) for row in range(3) for col in range(3)]
    nouns = [shapes.plural(c, k) for c in shapes.COLORS for k in shapes.KINDS]
    words = {w for text in (*texts, *places, *nouns) for w in text.split()}
    words |= {w.strip(",.:") for w in words} | {*shapes.KINDS, *NUMBER_WORDS, "a", "objects", "and"}
    return sorted(w for w in words if w)


def documents(seed: int, stage: str = "first") -> Iterator[Document]:
    """Yield documents endlessly, with scenes of the train split only."""
    rng = random.Random(f"corpus/{seed}")
    streams = {d: shapes.scenes(d, "train", seed=1_000_003 + seed) for d in DIFFICULTY_SHARES}
    words = word_list()
    while True:
        difficulty = rng.choices(list(DIFFICULTY_SHARES), weights=list(DIFFICULTY_SHARES.values()))[0]
        scene, question, _ = next(streams[difficulty])
        if question.noun.endswith("objects") and rng.random() > EASY_SHARE[stage]:
            continue
        chance = rng.random()
        if chance < ECHO_SHARE:
            echo = " ".join(rng.choices(words, k=rng.randint(6, 24)))
            yield Document(scene, f"Repeat: {echo}", echo)
        elif chance < ECHO_SHARE + CAPTION_SHARE and not scene.free:
            yield Document(scene, "Describe.", caption(scene))
        else:
            hits = [o for o in scene.objects if question.matches(o)]
            yield Document(scene, user_text(question, rng), answer_text(question, hits, STAGES[stage], rng))


def tokenizer_texts(n: int, seed: int) -> Iterator[str]:
    """Yield the texts that the tokenizer learns its merges from: the corpus and the reference style's words."""
    stream = documents(seed)
    for _ in range(n):
        document = next(stream)
        yield f" {document.user}"
        yield f" {document.assistant}"
    for example in shapes.examples("simple", "train", n // 4, seed):
        yield f" {prompt.target(example.reference or '', example.answer, 'cot')}"
