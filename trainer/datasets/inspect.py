"""Inspect a dataset on disk: print a summary, or export every usable question as one line of JSON.

Each image is decoded once.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

from PIL import ImageStat

from trainer.datasets import images
from trainer.datasets.example import Example, Picture
from trainer.datasets.images import PictureError
from trainer.datasets.questions import Skipped
from trainer.datasets.source import Source, open_source
from trainer.datasets.tables.columns import printable
from trainer.spec.config import DataConfig
from trainer.spec.errors import TrainerError


class Size(NamedTuple):
    """Size of the upright image in pixels, and the means of red, green and blue, 0 to 255."""

    width: int
    height: int
    mean: tuple[float, ...]


@dataclass
class Pictures:
    """The size of every inspected image, or why it cannot be used."""

    known: dict[str, Size | Skipped] = field(default_factory=dict)

    def sizes(self, example: Example) -> list[Size] | Skipped:
        """Return the sizes of an example's images, or why one of them cannot be used."""
        sizes: list[Size] = []
        for picture in example.pictures:
            if picture.identity not in self.known:
                self.known[picture.identity] = _size(picture)
            size = self.known[picture.identity]
            if isinstance(size, Skipped):
                return size
            sizes.append(size)
        return sizes


def _size(picture: Picture) -> Size | Skipped:
    """Return an image's size without keeping pixels, because the next image may be as large."""
    try:
        image = picture.load()
    except PictureError as error:
        return Skipped(error.reason, error.case)
    return Size(*images.original_size(image), tuple(ImageStat.Stat(image).mean))


def usable(rows: Iterable[Example | Skipped], pictures: Pictures) -> Iterator[tuple[Example, list[Size]] | Skipped]:
    """Yield every row in file order; usable rows with the sizes of their images."""
    for row in rows:
        sizes = row if isinstance(row, Skipped) else pictures.sizes(row)
        if isinstance(sizes, Skipped):
            yield sizes
        elif isinstance(row, Example):
            yield row, sizes


def inspect(config: DataConfig, split: str | None = None) -> dict[str, Any]:
    """Return `dataset`, `revision`, `notes`, and `splits` with a summary of each. Raises TrainerError."""
    source, revision = open_source(config)
    chosen = [_known(source, split)] if split else list(source.splits)
    summaries = {each: _summary(source.read(each)) for each in chosen}
    notes = list(getattr(source, "notes", ()))
    return {"dataset": source.name, "revision": revision, "notes": notes, "splits": summaries}


def _summary(rows: Iterable[Example | Skipped]) -> dict[str, Any]:
    pictures, skipped, answers, levels = Pictures(), Counter[str](), Counter[int](), Counter[str]()
    first: dict[str, str] = {}
    sizes: dict[str, Size] = {}
    references = 0
    for item in usable(rows, pictures):
        if isinstance(item, Skipped):
            skipped[item.reason] += 1
            first.setdefault(item.reason, printable(item.detail, 200))
            continue
        example, item_sizes = item
        answers[example.answer] += 1
        levels[example.difficulty or "unknown"] += 1
        references += example.reference is not None
        sizes |= {picture.identity: size for picture, size in zip(example.pictures, item_sizes, strict=True)}
    return {
        "rows": answers.total() + skipped.total(),
        "usable": answers.total(),
        "skipped": dict(skipped.most_common()),
        "first_skipped": {reason: first[reason] for reason in skipped if first[reason]},
        "answers": {str(answer): answers[answer] for answer in sorted(answers)},
        "difficulty": dict(sorted(levels.items())),
        "traces_accepted": references,
        "images": len(sizes),
        "width": _spread([size.width for size in sizes.values()]),
        "height": _spread([size.height for size in sizes.values()]),
    }


def _spread(values: list[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def text(inspection: dict[str, Any]) -> str:
    """Format the result of `inspect` as text for a terminal."""
    lines = [
        f"{inspection['dataset']}" + (f" at {inspection['revision']}" if inspection["revision"] else ""),
        *inspection["notes"],
    ]
    for split, facts in inspection["splits"].items():
        lines += ["", f"{split}: {facts['usable']:,} of {facts['rows']:,} rows are usable, {facts['images']:,} images"]
        for edge in ("width", "height"):
            if spread := facts[edge]:
                lines.append(f"  {edge}  {spread['min']} to {spread['max']} px, median {spread['median']:g}")
        lines.append(f"  references  {facts['traces_accepted']:,}")
        for name in ("answers", "difficulty", "skipped"):
            first = facts["first_skipped"] if name == "skipped" else {}
            rows = counts(facts[name], first)
            lines += [f"  {name}", *rows] if rows else [f"  {name}  none"]
    return "\n".join(lines)


def counts(counts_by_name: Mapping[str, int], first: Mapping[str, str]) -> list[str]:
    """Return one line per count; `first` describes the first row of some of them."""
    details = {name: f" (the first is {detail})" for name, detail in first.items() if detail}
    return [f"    {n:>9,}  {name}{details.get(name, '')}" for name, n in counts_by_name.items()]


def export(config: DataConfig, split: str, out: IO[str]) -> int:
    """Write one line of JSON per usable question, in file order; return their number. Raises TrainerError."""
    source = open_source(config).source
    written = 0
    for item in usable(source.read(_known(source, split)), Pictures()):
        if not isinstance(item, Skipped):
            out.write(json.dumps(_line(*item)) + "\n")
            written += 1
    return written


def _line(example: Example, sizes: list[Size]) -> dict[str, Any]:
    """Return an example as JSON. Size and means are those of the first image; the reference is the dataset's own."""
    return {
        "key": example.key,
        "question": example.question,
        "answer": example.answer,
        "difficulty": example.difficulty,
        "reference": example.meta.get("trace", example.reference),
        "image_width": sizes[0].width,
        "image_height": sizes[0].height,
        "image_mean": list(sizes[0].mean),
    }


def _known(source: Source, split: str) -> str:
    if split not in source.splits:
        there = ", ".join(source.splits)
        raise TrainerError("data", f"{source.name} has no split {split!r}. Choose one of {there}.")
    return split
