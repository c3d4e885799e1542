"""Define two worlds of coloured shapes on a grid, and draw their scenes.

A scene's split is a hash of its canonical form (objects and places, without jitter and background), so no scene is in
two splits.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from trainer.datasets.images import encode_png

KINDS = ("circle", "square", "triangle", "star")
COLORS = {"red": (220, 50, 47), "green": (60, 160, 60), "blue": (50, 90, 220), "yellow": (235, 200, 40)}
CELL = 32
"""Edge of a grid cell in pixels; one image token of the embedded models covers one cell."""


@dataclass(frozen=True)
class World:
    """A grid of cells with names, and the limits of its scenes."""

    name: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    most: int
    """Largest count in `simple`."""
    dense: tuple[int, int]
    """Smallest and largest number of objects in `hard`."""
    radii: tuple[int, int]
    """Smallest and largest radius of a free-standing object, in pixels."""
    apart: int
    """Smallest distance between the centres of two free-standing objects, in pixels."""
    zeros: float
    """Share of `simple` questions whose answer is 0."""

    @property
    def grid(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> int:
        """Edge of the picture in pixels."""
        return self.grid * CELL

    @property
    def cells(self) -> int:
        return self.grid**2

    def position(self, shape: Shape) -> str:
        return f"{self.rows[shape.row]} {self.columns[shape.col]}"


SHAPES = World(
    "shapes", ("top", "middle", "bottom"), ("left", "center", "right"), 9, (10, 18), radii=(5, 10), apart=11, zeros=0.03
)
"""A 3 x 3 grid that can be counted at a glance."""
BOARD = World(
    "board",
    ("top", "upper", "lower", "bottom"),
    ("far left", "left", "right", "far right"),
    10,
    (10, 18),
    radii=(6, 11),
    apart=15,
    zeros=0.02,
)
"""A 4 x 4 grid with counts up to 10, the cap of the steps reward; too many to count at a glance."""
WORLDS = {world.name: world for world in (SHAPES, BOARD)}


@dataclass(frozen=True)
class Shape:
    """A drawn object; `x`, `y` and `radius` are in pixels, `row` and `col` are those of its grid cell."""

    kind: str
    color: str
    x: int
    y: int
    radius: int

    @property
    def row(self) -> int:
        return self.y // CELL

    @property
    def col(self) -> int:
        return self.x // CELL


@dataclass(frozen=True)
class Scene:
    objects: tuple[Shape, ...]
    background: tuple[int, int, int]
    free: bool = False
    # Not in repr, from which the keys of examples are made: those of the first world must not change.
    world: World = field(default=SHAPES, repr=False)

    def canonical(self) -> str:
        """Return objects and places: by cell on the grid, or by a coarse 8-pixel raster if free-standing."""
        if self.free:
            places = sorted((o.kind, o.color, o.x // 8, o.y // 8) for o in self.objects)
        else:
            places = sorted((o.kind, o.color, o.row, o.col) for o in self.objects)
        return repr(places) if self.world is SHAPES else f"{self.world.name} {places!r}"

    def split(self) -> str:
        bucket = int.from_bytes(hashlib.sha256(self.canonical().encode()).digest()[:4], "big") % 100
        return "train" if bucket < 80 else "val" if bucket < 90 else "test"


def draw(scene: Scene) -> Image.Image:
    """Return the scene as an RGB image of `scene.world.size` pixels squared."""
    image = Image.new("RGB", (scene.world.size, scene.world.size), scene.background)
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
    """A scene's image, drawn each time it is needed."""

    scene: Scene

    @property
    def identity(self) -> str:
        return self.scene.canonical()

    def load(self) -> Image.Image:
        return draw(self.scene)

    def encoded(self) -> bytes:
        return encode_png(self.load())
