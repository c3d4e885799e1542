"""Generate drawn counting worlds: coloured shapes on a canvas, a question, the true count, and reference reasoning.

`shapes-*` is a 3 x 3 grid, `board-*` a 4 x 4 grid with counts to 10. Both are deterministic from a seed.
"""

from __future__ import annotations

import hashlib
import random

from trainer.datasets.example import Example
from trainer.datasets.shapes.questions import Question
from trainer.datasets.shapes.scenes import DIFFICULTIES, SPLITS, scenes
from trainer.datasets.shapes.text import write_reference
from trainer.datasets.shapes.world import BOARD, COLORS, KINDS, SHAPES, WORLDS, DrawnPicture, Scene, World, draw

__all__ = [
    "BOARD",
    "COLORS",
    "DIFFICULTIES",
    "KINDS",
    "SHAPES",
    "SPLITS",
    "WORLDS",
    "DrawnPicture",
    "Question",
    "Scene",
    "World",
    "draw",
    "examples",
    "key_of",
    "scenes",
    "world_of",
]


def world_of(dataset: str) -> tuple[World, str] | None:
    """Return the world and the difficulty of a drawn dataset such as `board-simple`; None for any other dataset."""
    name, _, difficulty = dataset.partition("-")
    return (WORLDS[name], difficulty) if name in WORLDS and difficulty in DIFFICULTIES else None


def key_of(scene: Scene, question: Question) -> str:
    """Return the example's key: a hash of image and question, independent of the seed."""
    return hashlib.sha256(f"{scene!r}|{question.text}".encode()).hexdigest()[:16]


def examples(difficulty: str, split: str, n: int, seed: int, world: World = SHAPES) -> list[Example]:
    """Return `n` distinct examples of one split; the same arguments give the same examples, byte for byte."""
    by_key: dict[str, Example] = {}
    drawn = scenes(difficulty, split, seed, world)
    while len(by_key) < n:
        scene, question, rng = next(drawn)
        key = key_of(scene, question)
        if key not in by_key:
            by_key[key] = _example(difficulty, split, key, scene, question, rng)
    return list(by_key.values())


def _example(difficulty: str, split: str, key: str, scene: Scene, question: Question, rng: random.Random) -> Example:
    world = scene.world
    hits = [o for o in scene.objects if question.matches(o)]
    return Example(
        dataset=f"{world.name}-{difficulty}",
        split=split,
        key=key,
        question=question.text,
        answer=len(hits),
        pictures=(DrawnPicture(scene),),
        reference=write_reference(question.noun, hits, rng, world),
        difficulty=difficulty,
        meta={
            "noun": question.noun,
            "second_reference": write_reference(question.noun, hits, rng, world),
            "objects": [
                {
                    "kind": o.kind,
                    "color": o.color,
                    "position": world.position(o),
                    "x": o.x,
                    "y": o.y,
                    "hit": question.matches(o),
                }
                for o in scene.objects
            ],
        },
    )
