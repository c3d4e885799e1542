"""Generate scenes at random, with the questions on them. Deterministic from a seed.

`simple`: on the grid, questions by shape, colour, both or all; counts from 1 near uniform, few zeros.

`complex`: the same grid, questions with relations, negation and two attributes.

`hard`: many free-standing shapes of many sizes that overlap.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from trainer.datasets.shapes.questions import Question, ask_complex, ask_simple, is_well_posed
from trainer.datasets.shapes.world import CELL, COLORS, KINDS, Scene, Shape, World

DIFFICULTIES = ("simple", "complex", "hard")
SPLITS = ("train", "val", "test")


def _pick_attributes(rng: random.Random, is_allowed: Callable[[str, str], bool]) -> tuple[str, str]:
    pairs = [(kind, color) for kind in KINDS for color in COLORS if is_allowed(kind, color)]
    return rng.choice(pairs)


def _fill(
    rng: random.Random, question: Question, matching: int, others: int, places: list[tuple[int, int, int]]
) -> list[Shape]:
    roles = [True] * matching + [False] * others
    rng.shuffle(roles)
    shapes = []
    for belongs, (x, y, radius) in zip(roles, places, strict=True):
        kind, color = _pick_attributes(
            rng,
            lambda k, c, b=belongs: question.matches(Shape(k, c, 0, 0, 1)) == b,  # type: ignore[misc]
        )
        shapes.append(Shape(kind, color, x, y, radius))
    return shapes


def _grid_places(rng: random.Random, n: int, world: World) -> list[tuple[int, int, int]]:
    cells = sorted(rng.sample([(row, col) for row in range(world.grid) for col in range(world.grid)], n))
    return [
        (col * CELL + CELL // 2 + rng.randint(-3, 3), row * CELL + CELL // 2 + rng.randint(-3, 3), rng.randint(8, 12))
        for row, col in cells
    ]


def _free_places(rng: random.Random, n: int, world: World) -> list[tuple[int, int, int]]:
    places: list[tuple[int, int, int]] = []
    while len(places) < n:
        radius = rng.randint(*world.radii)
        x, y = rng.randint(radius + 1, world.size - radius - 2), rng.randint(radius + 1, world.size - radius - 2)
        if all((x - px) ** 2 + (y - py) ** 2 >= world.apart**2 for px, py, _ in places):
            places.append((x, y, radius))
    return sorted(places, key=lambda p: (p[1] // CELL, p[0]))


def _background(rng: random.Random) -> tuple[int, int, int]:
    return (rng.randint(225, 255), rng.randint(225, 255), rng.randint(225, 255))


def _simple(rng: random.Random, world: World) -> tuple[Scene, Question]:
    n = 0 if rng.random() < world.zeros else rng.randint(1, world.most)
    question = ask_simple(rng, may_ask_all=n > 0)
    others = 0 if question.noun == "objects" else rng.randint(1 if n == 0 else 0, world.cells - n)
    shapes = _fill(rng, question, n, others, _grid_places(rng, n + others, world))
    return Scene(tuple(shapes), _background(rng), world=world), question


def _complex(rng: random.Random, world: World) -> tuple[Scene, Question]:
    while True:
        n = rng.randint(0, world.most - 2)
        for _ in range(40):
            shapes = []
            focus_kind, focus_color, bias = rng.choice(KINDS), rng.choice(list(COLORS)), rng.random() * 0.7
            for x, y, radius in _grid_places(rng, rng.randint(max(world.grid, n), world.cells), world):
                kind = focus_kind if rng.random() < bias else rng.choice(KINDS)
                color = focus_color if rng.random() < bias else rng.choice(list(COLORS))
                shapes.append(Shape(kind, color, x, y, radius))
            question = ask_complex(rng, shapes, world)
            if sum(map(question.matches, shapes)) == n and is_well_posed(question, shapes):
                return Scene(tuple(shapes), _background(rng), world=world), question


def _hard(rng: random.Random, world: World) -> tuple[Scene, Question]:
    least, most = world.dense
    n = rng.randint(1, most - 3)
    question = ask_simple(rng, may_ask_all=n >= least)
    total = n if question.noun == "objects" else rng.randint(max(least, n), most)
    shapes = _fill(rng, question, n, total - n, _free_places(rng, total, world))
    return Scene(tuple(shapes), _background(rng), free=True, world=world), question


_MAKERS = {"simple": _simple, "complex": _complex, "hard": _hard}


def scenes(difficulty: str, split: str, seed: int, world: World) -> Iterator[tuple[Scene, Question, random.Random]]:
    """Yield an endless, deterministic stream of scenes of one split, with one question each.

    Every item comes with the generator's `random.Random`, for the texts that belong to it.
    """
    if difficulty not in _MAKERS:
        raise ValueError(f"Unknown difficulty {difficulty!r}. Choose one of {', '.join(DIFFICULTIES)}.")
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}. Choose one of {', '.join(SPLITS)}.")
    rng = random.Random(f"{world.name}/{difficulty}/{split}/{seed}")
    while True:
        scene, question = _MAKERS[difficulty](rng, world)
        if scene.split() == split:
            yield scene, question, rng
