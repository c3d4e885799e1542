"""Generate questions on scenes: by shape, colour, both or all; by row, column, negation, two kinds or relation."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainer.datasets.shapes.world import COLORS, KINDS, Shape, World


@dataclass(frozen=True)
class Question:
    """`noun` is the plural of what is counted; `matches` tells whether an object is counted."""

    text: str
    noun: str
    matches: Callable[[Shape], bool]


def plural(color: str | None, kind: str | None) -> str:
    return " ".join(part for part in (color, f"{kind}s" if kind else "objects") if part)


def ask_simple(rng: random.Random, *, may_ask_all: bool = True) -> Question:
    kind, color = rng.choice(KINDS), rng.choice(list(COLORS))
    topic = rng.choice(("shape", "color", "both", "all") if may_ask_all else ("shape", "color", "both"))
    wanted_kind = kind if topic in ("shape", "both") else None
    wanted_color = color if topic in ("color", "both") else None
    noun = plural(wanted_color, wanted_kind)
    return Question(
        f"How many {noun} are there?",
        noun,
        lambda o: wanted_kind in (None, o.kind) and wanted_color in (None, o.color),
    )


def ask_complex(rng: random.Random, objects: Sequence[Shape], world: World) -> Question:
    kind, other_kind = rng.sample(KINDS, 2)
    color, other_color = rng.sample(list(COLORS), 2)
    topic = rng.choice(("row", "column", "not", "two", "or", "relation"))
    if topic == "row":
        row = rng.randrange(world.grid)
        place = f"in the {world.rows[row]} row"
        noun = f"{plural(None, kind)} {place}" if rng.random() < 0.4 else f"objects {place}"
        by_kind = noun.startswith(kind)
        return Question(f"How many {noun} are there?", noun, lambda o: o.row == row and (not by_kind or o.kind == kind))
    if topic == "column":
        col = rng.randrange(world.grid)
        place = f"in the {world.columns[col]} column"
        noun = f"{color} objects {place}" if rng.random() < 0.4 else f"objects {place}"
        by_color = noun.startswith(color)
        return Question(
            f"How many {noun} are there?", noun, lambda o: o.col == col and (not by_color or o.color == color)
        )
    if topic == "not":
        return Question(
            f"How many objects are not {color}?", f"objects that are not {color}", lambda o: o.color != color
        )
    if topic == "two":
        noun = f"{plural(color, kind)} and {plural(other_color, other_kind)}"
        return Question(
            f"How many {noun} are there in total?",
            noun,
            lambda o: (o.color, o.kind) in ((color, kind), (other_color, other_kind)),
        )
    if topic == "or":
        noun = f"objects that are {color} or {kind}s"
        return Question(f"How many objects are {color} or {kind}s?", noun, lambda o: o.color == color or o.kind == kind)
    anchor = rng.choice(objects)
    side, beyond = rng.choice(_SIDES)
    noun = f"objects {side} the {anchor.color} {anchor.kind}"
    return Question(f"How many {noun} are there?", noun, lambda o: beyond(o, anchor))


_SIDES: tuple[tuple[str, Callable[[Shape, Shape], bool]], ...] = (
    ("left of", lambda o, anchor: o.col < anchor.col),
    ("right of", lambda o, anchor: o.col > anchor.col),
    ("above", lambda o, anchor: o.row < anchor.row),
    ("below", lambda o, anchor: o.row > anchor.row),
)


def is_well_posed(question: Question, shapes: Sequence[Shape]) -> bool:
    """Return whether a relation refers to an object that is unique in colour and kind."""
    matching = [o for o in shapes if question.noun.endswith(f"the {o.color} {o.kind}")]
    return len(matching) <= 1
