"""Generate the text of pre-training: captions, lists, loosely formatted answers, echoes of words.

This is all that the base model learns; the model card quotes it. Counting questions are few, and most of their answers
are a bare number. The reference style of `trainer/datasets/shapes/text.py` never answers a question: its words occur in
echoes, and a few sentences in its style name some objects in an image.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from store.trace import NUMBER_WORDS
from trainer.datasets import shapes
from trainer.datasets.shapes import BOARD, Question, Scene
from trainer.datasets.shapes.questions import plural
from trainer.datasets.shapes.text import CLOSERS, NONE_FOUND, OPENERS, place
from trainer.datasets.shapes.world import Shape
from trainer.spec import prompt

WORLD = BOARD
DIFFICULTY_SHARES = {"simple": 0.62, "complex": 0.24, "hard": 0.14}
KIND_SHARES = {"list": 0.52, "question": 0.08, "caption": 0.12, "lookup": 0.14, "register": 0.07, "echo": 0.07}
"""With three times as many questions, the model counts at a glance as well as by listing and need not reason."""
FORM_SHARES = (0.47, 0.20, 0.06, 0.07, 0.08, 0.04, 0.05, 0.03)
"""Shares of the forms of `answer_text`: two thirds are a bare number, an eighth is well-formed."""
CLOSED_SHARE = 0.2
"""Share of lists that end in a think body with its answer in the second part, so that the answer is the count."""
FIRST_WORDS = sorted({text.split()[0] for text in (*OPENERS, *NONE_FOUND)})
NAMED = ("Looking at the picture, I can see {items}.", "In the image I notice {items}.", "Here I can make out {items}.")


class Document(NamedTuple):
    """One pre-training text: the user's turn, the assistant's turn and their scene."""

    scene: Scene
    user: str
    assistant: str


def enumeration(hits: Sequence[Shape]) -> str:
    return " ".join(f"{i}. {o.color} {o.kind} {WORLD.position(o)}" for i, o in enumerate(hits, 1))


def thought(listed: str, n: int) -> str:
    return f"<think>{listed} so {n}</think><answer>{n}</answer>"


def caption(scene: Scene) -> str:
    return "; ".join(f"{WORLD.position(o)}: {o.color} {o.kind}" for o in scene.objects)


def lookup(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Return a question about one cell, and the object in it."""
    row, col = rng.randrange(WORLD.grid), rng.randrange(WORLD.grid)
    there = [f"{o.color} {o.kind}" for o in scene.objects if (o.row, o.col) == (row, col)]
    return f"What is at the {WORLD.rows[row]} {WORLD.columns[col]}?", " and ".join(there) or "nothing"


def named_objects(scene: Scene, rng: random.Random) -> str:
    """Return a sentence in the reference's style about at most four objects, without counting."""
    some = rng.sample(range(len(scene.objects)), rng.randint(1, min(4, len(scene.objects))))
    items = [f"a {o.color} {o.kind} {place(o.row, o.col, WORLD)}" for o in (scene.objects[i] for i in sorted(some))]
    listed = items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
    return rng.choice(NAMED).format(items=listed)


def answer_text(question: Question, hits: Sequence[Shape], rng: random.Random) -> str:
    """Return an answer in one of the base's forms, with probabilities `FORM_SHARES`."""
    n, listed = len(hits), enumeration(hits) or "none"
    counted = f"{listed} so {n}"
    forms = (
        f"{n}",
        f"<answer>{n}</answer>",
        f"<think>the {question.noun}</think>{n}",
        f"<think>I count {n}</think><answer>{n}</answer>",
        counted,
        f"<think>{counted}",
        thought(listed, n),
        f"{counted}</think>",
    )
    return rng.choices(forms, weights=FORM_SHARES)[0]


def user_text(question: Question, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.4:
        return f"{question.text} {prompt.INSTRUCTIONS['cot']}"
    return question.text if chance < 0.9 else f"{question.text} {prompt.INSTRUCTIONS['direct']}"


def word_list() -> list[str]:
    """Return every word of the reference style, for echoes."""
    texts = [t.format(items="", noun="", count="") for t in (*OPENERS, *CLOSERS, *NONE_FOUND)]
    places = [place(row, col, WORLD) for row in range(WORLD.grid) for col in range(WORLD.grid)]
    nouns = [plural(c, k) for c in shapes.COLORS for k in shapes.KINDS]
    words = {w for text in (*texts, *places, *nouns) for w in text.split()}
    words |= {w.strip(",.:") for w in words} | {*shapes.KINDS, *NUMBER_WORDS, "a", "objects", "and", "is"}
    return sorted(w for w in words if w)


def echo(words: Sequence[str], is_tagged: bool, rng: random.Random) -> str:
    """Return random words. With `is_tagged`, most are in think tags, and begin and end like the reference style."""
    text = " ".join(rng.choices(words, k=rng.randint(6, 24)))
    if not is_tagged or rng.random() < 0.3:
        return text
    first, last = rng.choice(FIRST_WORDS), rng.choice(words).strip(",.:")
    return f"<think>{first} {text} {last}.</think>"


def documents(seed: int, closes_lists: bool = False, tags_echoes: bool = False) -> Iterator[Document]:
    """Yield documents endlessly, with scenes of the train split only."""
    rng = random.Random(f"corpus/{seed}")
    streams = {d: shapes.scenes(d, "train", 1_000_003 + seed, WORLD) for d in DIFFICULTY_SHARES}
    words = word_list()
    while True:
        difficulty = rng.choices(list(DIFFICULTY_SHARES), weights=list(DIFFICULTY_SHARES.values()))[0]
        scene, question, _ = next(streams[difficulty])
        hits = [o for o in scene.objects if question.matches(o)]
        kind = rng.choices(list(KIND_SHARES), weights=list(KIND_SHARES.values()))[0]
        if kind == "echo":
            text = echo(words, tags_echoes, rng)
            yield Document(scene, f"Repeat: {text}", text)
        elif kind == "caption":
            yield Document(scene, "Describe.", caption(scene))
        elif kind == "lookup":
            yield Document(scene, *lookup(scene, rng))
        elif kind == "register":
            yield Document(scene, "Name a few objects.", named_objects(scene, rng))
        elif kind == "list":
            listed, n = enumeration(hits) or "none", len(hits)
            is_closed = closes_lists and rng.random() < CLOSED_SHARE
            text = thought(listed, n) if is_closed else f"{listed} so {n}"
            yield Document(scene, f"List the {question.noun}.", text)
        else:
            yield Document(scene, user_text(question, rng), answer_text(question, hits, rng))


def tokenizer_texts(n: int, seed: int) -> Iterator[str]:
    """Yield the texts from which the tokenizer learns its merges: the corpus and the reference style's words."""
    stream = documents(seed)
    for _ in range(n):
        document = next(stream)
        yield f" {document.user}"
        yield f" {document.assistant}"
    for example in shapes.examples("simple", "train", n // 4, seed, WORLD):
        yield f" {prompt.target(example.reference or '', example.answer, 'cot')}"
