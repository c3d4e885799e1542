"""Reference reasonings for the drawn worlds: fluent, varied English, as an annotator would write it.

This is the style that SFT imitates. The embedded base models have never seen it in an answer to a question: what their
pre-training text (`trainer/tiny/corpus.py`) says to questions is telegraphic and numbered.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from store.trace import NUMBER_WORDS
from trainer.datasets.shapes.world import SHAPES, Shape, World

OPENERS = (
    "Looking for {noun} in the picture, I can see {items}.",
    "Looking for {noun} in the image, I notice {items}.",
    "I look for {noun} in the picture and find {items}.",
    "Going over the whole picture for {noun}, I see {items}.",
    "Let me look for {noun} in the image: I can make out {items}.",
)
CLOSERS = (
    "That makes {count} {noun} in all.",
    "So there are {count} {noun} in all.",
    "So the total comes to {count} {noun}.",
    "Adding them up gives {count} {noun}.",
)
NONE_FOUND = (
    "Looking for {noun} in the picture, I can see no {noun} at all. So there are zero {noun} in all.",
    "I look for {noun} in the whole picture and find no {noun} at all. That makes zero {noun} in all.",
    "Looking for {noun} in the image, I notice that there are no {noun}. So the total comes to zero {noun}.",
)


def place(row: int, col: int, world: World) -> str:
    """Return how a person would name a cell of the grid."""
    if world is not SHAPES:
        return f"{world.columns[col]} in the {world.rows[row]} row"
    if (row, col) == (1, 1):
        return "in the center"
    if row == 1:
        return f"on the {('left', '', 'right')[col]}"
    vertical = ("top", "", "bottom")[row]
    return f"at the {vertical}" if col == 1 else f"at the {vertical} {('left', '', 'right')[col]}"


def write_reference(noun: str, hits: Sequence[Shape], rng: random.Random, world: World) -> str:
    """Return one annotator's reasoning about the objects in question, in reading order."""
    if not hits:
        return rng.choice(NONE_FOUND).format(noun=noun)
    items = [f"a {o.color} {o.kind} {place(o.row, o.col, world)}" for o in hits]
    listed = items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
    count = NUMBER_WORDS[len(hits)]
    opener, closer = rng.choice(OPENERS), rng.choice(CLOSERS)
    if len(hits) == 1:
        closer = closer.replace(" {noun}", "").replace("are", "is")
    return f"{opener.format(items=listed, noun=noun)} {closer.format(count=count, noun=noun)}"
