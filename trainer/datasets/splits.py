"""Assign the rows of a source's splits to the roles of a run (train, val, test), and draw the examples of a role.

No image is in two roles, except with the rule `row`. Drawn examples are decoded once, so that no run fails on them
later.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np

from trainer.datasets import images
from trainer.datasets.example import Example
from trainer.datasets.images import PictureError
from trainer.datasets.questions import Skipped

Role = Literal["train", "val", "test"]
ROLES: tuple[Role, ...] = ("train", "val", "test")
HELD_OUT = "image is held out"
NO_REFERENCE = "no reference reasoning"
TOO_LONG = "text or key is too long"
NOT_UNICODE = "text is not valid Unicode"
BIG_COUNT = "answer has more than nine digits"
LONGEST_TEXT = 2000
LONGEST_KEY = 200
SMALL = 100
"""Below this number of images, shares are exact, because hashing could leave a role empty."""
ROW_SEED = 42
"""Seed of the original project's split, which the rule `row` repeats."""


class Share(NamedTuple):
    """The images of a source split whose bucket, 0 to 99, is in [first, end)."""

    split: str
    first: int = 0
    end: int = 100


class Drawn(NamedTuple):
    """Examples in the order they are drawn, and the number of skipped rows by reason."""

    examples: list[Example]
    skipped: Counter[str]


def shares(splits: Collection[str]) -> dict[Role, Share]:
    """Return the share of the source for each role; a source without a train split can only be used for test."""
    if "train" not in splits:
        return {"test": Share("test" if "test" in splits else next(iter(splits)))}
    others = [split for split in ("test", "val") if split in splits]
    if len(others) == 2:
        return {role: Share(role) for role in ROLES}
    if others:
        return {"train": Share("train", 0, 90), "val": Share("train", 90), "test": Share(others[0])}
    return {"train": Share("train", 0, 75), "val": Share("train", 75, 85), "test": Share("train", 85)}


def places(images: Collection[str]) -> dict[str, int]:
    """Return each image's bucket, 0 to 99, from a hash of its identity; in a small set by rank, so none is empty."""
    if len(images) >= SMALL:
        return {image: int.from_bytes(_hash(image)[:4], "big") % 100 for image in images}
    order, n = sorted(images, key=_hash), len(images)
    few = [*[0] * n, 80, 99][-n:]
    return {image: few[rank] if n < 10 else rank * 100 // n for rank, image in enumerate(order)}


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def collect(rows: Iterable[Example | Skipped]) -> Drawn:
    """Return a source's usable rows, and the number of others by reason."""
    collected = Drawn([], Counter())
    for row in rows:
        if isinstance(row, Skipped):
            collected.skipped[row.reason] += 1
        else:
            collected.examples.append(row)
    return collected


def by_image(sets: Mapping[str, Drawn], parts: Mapping[Role, Share], *, references_only: bool) -> dict[Role, Drawn]:
    """Return all candidates of each role from the rows of each source split.

    Rows that share an image with test are left out of val and train, and those that share one with val out of train.
    """
    by_role: dict[Role, Drawn] = {}
    used_images: set[str] = set()
    place = {split: places({row.pictures[0].identity for row in each.examples}) for split, each in sets.items()}
    for role in reversed(ROLES):
        if role not in parts:
            continue
        share = parts[role]
        drawn = Drawn([], sets[share.split].skipped.copy())
        for row in sets[share.split].examples:
            if not share.first <= place[share.split][row.pictures[0].identity] < share.end:
                continue
            if references_only and row.reference is None:
                drawn.skipped[NO_REFERENCE] += 1
            elif not used_images.isdisjoint(picture.identity for picture in row.pictures):
                drawn.skipped[HELD_OUT] += 1
            else:
                drawn.examples.append(row)
        used_images |= {picture.identity for row in drawn.examples for picture in row.pictures}
        by_role[role] = drawn
    return by_role


def by_row(rows: Drawn) -> dict[Role, Drawn]:
    """Return the original split: rows with a reference, shuffled, 75/10/15; an image may have several roles."""
    candidates = [row for row in rows.examples if row.reference is not None]
    skipped = rows.skipped + Counter({NO_REFERENCE: len(rows.examples) - len(candidates)})
    order = np.random.default_rng(ROW_SEED).permutation(len(candidates))
    cuts = (0, int(0.75 * len(candidates)), int(0.85 * len(candidates)), len(candidates))
    return {
        role: Drawn([candidates[i] for i in order[cuts[n] : cuts[n + 1]]], skipped.copy())
        for n, role in enumerate(ROLES)
    }


def draw(candidates: Drawn, n: int, seed: int) -> Drawn:
    """Draw at most `n` usable examples in an order that depends only on keys and seed.

    Images are decoded until enough are found; a smaller `n` gives the beginning of the result for a larger one.
    """

    def place(example: Example) -> bytes:
        return _hash(f"{seed}/{example.key}")

    examples: list[Example] = []
    skipped = candidates.skipped.copy()
    looked_at: dict[str, str | None] = {}
    for example in sorted(candidates.examples, key=place):
        if len(examples) == n:
            break
        fault = unfit(example) or picture_fault(example, looked_at)
        if fault:
            skipped[fault] += 1
        else:
            examples.append(example)
    return Drawn(examples, skipped)


def unfit(example: Example) -> str | None:
    """Return why the example cannot be tokenized, stored or answered, or None."""
    texts = (example.question, example.key, example.reference or "")
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        return NOT_UNICODE
    if len(example.question) > LONGEST_TEXT or len(example.key) > LONGEST_KEY:
        return TOO_LONG
    return BIG_COUNT if example.answer >= 10**9 else None


def picture_fault(example: Example, looked_at: dict[str, str | None]) -> str | None:
    """Return why one of its images cannot be used; `looked_at` caches the result of each image by its identity."""
    for picture in example.pictures:
        if picture.identity not in looked_at:
            try:
                images.fit(picture.load())
                looked_at[picture.identity] = None
            except PictureError as error:
                looked_at[picture.identity] = error.reason
        if fault := looked_at[picture.identity]:
            return fault
    return None
