"""The drawn counting world: coloured shapes on a canvas, a question, the true count, and reference reasoning.

Deterministic from a seed. A scene's split is a hash of its canonical form (what stands where, without jitter and
background), so no scene is in two splits.

`simple`: a 3 x 3 grid, questions by shape, colour, both or all; counts 1-9 near uniform, few zeros.

`complex`: the same grid, questions with relations, negation and two attributes.

`hard`: 10 to 18 free-standing shapes of many sizes that overlap.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw

from trainer.datasets.example import Example
from trainer.datasets.images import encode_png
from trainer.datasets.shapes_text import write_reference

SIZE = 96
GRID = 3
KINDS = ("circle", "square", "triangle", "star")
COLORS = {"red": (220, 50, 47), "green": (60, 160, 60), "blue": (50, 90, 220), "yellow": (235, 200, 40)}
ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "center", "right")
DIFFICULTIES = ("simple", "complex", "hard")
SPLITS = ("train", "val", "test")
ZERO_SHARE = 0.03


@dataclass(frozen=True)
class Shape:
    """A drawn object; `x`, `y` and `radius` in pixels, `row` and `col` of the 3 x 3 grid cell it is in."""

    kind: str
    color: str
    x: int
    y: int
    radius: int

    @property
    def row(self) -> int:
        return min(GRID - 1, self.y * GRID // SIZE)

    @property
    def col(self) -> int:
        return min(GRID - 1, self.x * GRID // SIZE)

    @property
    def position(self) -> str:
        return f"{ROWS[self.row]} {COLUMNS[self.col]}"


@dataclass(frozen=True)
class Scene:
    objects: tuple[Shape, ...]
    background: tuple[int, int, int]
    free: bool = False

    def canonical(self) -> str:
        """Return what stands where: on the grid by cell; free-standing by a coarse 8-pixel raster."""
        if self.free:
            places = sorted((o.kind, o.color, o.x // 8, o.y // 8) for o in self.objects)
        else:
            places = sorted((o.kind, o.color, o.row, o.col) for o in self.objects)
        return repr(places)

    def split(self) -> str:
        bucket = int.from_bytes(hashlib.sha256(self.canonical().encode()).digest()[:4], "big") % 100
        return "train" if bucket < 80 else "val" if bucket < 90 else "test"


@dataclass(frozen=True)
class Question:
    """`noun` is the plural of what is counted; `matches` decides whether an object is counted."""

    text: str
    noun: str
    matches: Callable[[Shape], bool]


def draw(scene: Scene) -> Image.Image:
    """Return the scene as an RGB image of SIZE x SIZE pixels."""
    image = Image.new("RGB", (SIZE, SIZE), scene.background)
    pen = ImageDraw.Draw(image)
    for shape in scene.objects:
        x, y, r, fill = shape.x, shape.y, shape.radius, COLORS[shape.color]
        outline = tuple(int(c * 0.6) for c in fill) if scene.free else None
        if shape.kind == "circle":
            pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=outline)
        elif shape.kind == "square":
            pen.rectangle((x - r, y - r, x + r, y + r), fill=fill, outline=outline)
        elif shape.kind == "triangle":
            pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=fill, outline=outline)
        else:
            pen.polygon(_star(x, y, r + 1), fill=fill, outline=outline)
    return image


def _star(x: int, y: int, radius: int) -> list[tuple[float, float]]:
    spokes = [(radius if i % 2 == 0 else radius * 0.42, math.pi * (i / 5 - 0.5)) for i in range(10)]
    return [(x + length * math.cos(angle), y + length * math.sin(angle)) for length, angle in spokes]


@dataclass(frozen=True)
class DrawnPicture:
    """A scene's picture, drawn each time it is needed."""

    scene: Scene

    @property
    def identity(self) -> str:
        return self.scene.canonical()

    def load(self) -> Image.Image:
        return draw(self.scene)

    def encoded(self) -> bytes:
        return encode_png(self.load())


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


def ask_complex(rng: random.Random, objects: tuple[Shape, ...]) -> Question:
    kind, other_kind = rng.sample(KINDS, 2)
    color, other_color = rng.sample(list(COLORS), 2)
    topic = rng.choice(("row", "column", "not", "two", "or", "relation"))
    if topic == "row":
        row = rng.randrange(GRID)
        noun = (
            f"{plural(None, kind)} in the {ROWS[row]} row" if rng.random() < 0.4 else f"objects in the {ROWS[row]} row"
        )
        by_kind = noun.startswith(kind)
        return Question(f"How many {noun} are there?", noun, lambda o: o.row == row and (not by_kind or o.kind == kind))
    if topic == "column":
        col = rng.randrange(GRID)
        noun = (
            f"{color} objects in the {COLUMNS[col]} column"
            if rng.random() < 0.4
            else f"objects in the {COLUMNS[col]} column"
        )
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


def _pick_attributes(rng: random.Random, wanted: Callable[[str, str], bool]) -> tuple[str, str]:
    pairs = [(kind, color) for kind in KINDS for color in COLORS if wanted(kind, color)]
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


def _grid_places(rng: random.Random, n: int) -> list[tuple[int, int, int]]:
    cell = SIZE // GRID
    cells = sorted(rng.sample([(row, col) for row in range(GRID) for col in range(GRID)], n))
    return [
        (col * cell + cell // 2 + rng.randint(-3, 3), row * cell + cell // 2 + rng.randint(-3, 3), rng.randint(8, 12))
        for row, col in cells
    ]


def _free_places(rng: random.Random, n: int) -> list[tuple[int, int, int]]:
    places: list[tuple[int, int, int]] = []
    while len(places) < n:
        radius = rng.randint(5, 10)
        x, y = rng.randint(radius + 1, SIZE - radius - 2), rng.randint(radius + 1, SIZE - radius - 2)
        if all((x - px) ** 2 + (y - py) ** 2 >= 11**2 for px, py, _ in places):
            places.append((x, y, radius))
    return sorted(places, key=lambda p: (p[1] * GRID // SIZE, p[0]))


def _background(rng: random.Random) -> tuple[int, int, int]:
    return (rng.randint(225, 255), rng.randint(225, 255), rng.randint(225, 255))


def _simple(rng: random.Random) -> tuple[Scene, Question]:
    n = 0 if rng.random() < ZERO_SHARE else rng.randint(1, 9)
    question = ask_simple(rng, may_ask_all=n > 0)
    others = 0 if question.noun == "objects" else rng.randint(1 if n == 0 else 0, 9 - n)
    shapes = _fill(rng, question, n, others, _grid_places(rng, n + others))
    return Scene(tuple(shapes), _background(rng)), question


def _complex(rng: random.Random) -> tuple[Scene, Question]:
    while True:
        n = rng.randint(0, 7)
        for _ in range(40):
            shapes = []
            focus_kind, focus_color, bias = rng.choice(KINDS), rng.choice(list(COLORS)), rng.random() * 0.7
            for x, y, radius in _grid_places(rng, rng.randint(max(3, n), 9)):
                kind = focus_kind if rng.random() < bias else rng.choice(KINDS)
                color = focus_color if rng.random() < bias else rng.choice(list(COLORS))
                shapes.append(Shape(kind, color, x, y, radius))
            question = ask_complex(rng, tuple(shapes))
            if sum(map(question.matches, shapes)) == n and _is_well_posed(question, shapes):
                return Scene(tuple(shapes), _background(rng)), question


def _is_well_posed(question: Question, shapes: list[Shape]) -> bool:
    """Return whether a relation refers to an object that is the only one of its colour and kind."""
    named = [o for o in shapes if question.noun.endswith(f"the {o.color} {o.kind}")]
    return len(named) <= 1


def _hard(rng: random.Random) -> tuple[Scene, Question]:
    n = rng.randint(1, 15)
    question = ask_simple(rng, may_ask_all=n >= 10)
    total = n if question.noun == "objects" else rng.randint(max(10, n), 18)
    shapes = _fill(rng, question, n, total - n, _free_places(rng, total))
    return Scene(tuple(shapes), _background(rng), free=True), question


_MAKERS = {"simple": _simple, "complex": _complex, "hard": _hard}


def scenes(difficulty: str, split: str, seed: int) -> Iterator[tuple[Scene, Question, random.Random]]:
    """Yield an endless, deterministic stream of scenes of one split, with one question each.

    The generator's own `random.Random` comes with every item, for the texts that go with it.
    """
    if difficulty not in _MAKERS:
        raise ValueError(f"unknown difficulty {difficulty!r}: choose one of {', '.join(DIFFICULTIES)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    rng = random.Random(f"shapes/{difficulty}/{split}/{seed}")
    while True:
        scene, question = _MAKERS[difficulty](rng)
        if scene.split() == split:
            yield scene, question, rng


def key_of(scene: Scene, question: Question) -> str:
    """Return the example's key: a hash of the picture and the question, whatever seed drew it."""
    return hashlib.sha256(f"{scene!r}|{question.text}".encode()).hexdigest()[:16]


def examples(difficulty: str, split: str, n: int, seed: int) -> list[Example]:
    """Return `n` distinct examples of one split; the same arguments give the same examples, byte for byte."""
    found: dict[str, Example] = {}
    drawn = scenes(difficulty, split, seed)
    while len(found) < n:
        scene, question, rng = next(drawn)
        key = key_of(scene, question)
        if key not in found:
            found[key] = _example(difficulty, split, key, scene, question, rng)
    return list(found.values())


def _example(difficulty: str, split: str, key: str, scene: Scene, question: Question, rng: random.Random) -> Example:
    hits = [o for o in scene.objects if question.matches(o)]
    return Example(
        dataset=f"shapes-{difficulty}",
        split=split,
        key=key,
        question=question.text,
        answer=len(hits),
        pictures=(DrawnPicture(scene),),
        reference=write_reference(question.noun, hits, rng),
        difficulty=difficulty,
        meta={
            "noun": question.noun,
            "second_reference": write_reference(question.noun, hits, rng),
            "objects": [
                {
                    "kind": o.kind,
                    "color": o.color,
                    "position": o.position,
                    "x": o.x,
                    "y": o.y,
                    "hit": question.matches(o),
                }
                for o in scene.objects
            ],
        },
    )
