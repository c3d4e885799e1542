"""Index a split: read it from its first row on, and store usable examples, statistics and image hashes."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import imagehash
from PIL import Image

from store.datasets import add_image_hashes, advance_index, begin_index, fail_index, finish_index
from store.db.engine import Store
from store.db.rows import ImageHashRow
from store.examples import get_examples
from store.media.rows import media_path
from trainer.datasets import images, shapes, splits
from trainer.datasets.example import Example, Picture
from trainer.datasets.images import PictureError
from trainer.datasets.questions import Skipped
from trainer.datasets.source import open_source
from trainer.datasets.storing import EXAMPLES_AT_ONCE, store_examples
from trainer.datasets.tables.columns import printable
from trainer.launch import identity
from trainer.spec.config import DataConfig
from trainer.spec.errors import TrainerError, classify

INTERRUPTED = "Indexing was interrupted. Index the dataset again."
_ORIGINS = {
    "coco": re.compile(r"COCO_[a-z]+2014_0*([0-9]+)\.jpg"),
    "vg": re.compile(r"VG_100K(?:_2)?/0*([0-9]+)\.jpg"),
}


@dataclass
class Tally:
    """Statistics of the rows so far.

    `sizes` are the sizes of usable rows' images in pixels, by identity; `hashed` are the SHA-256 of stored images.
    """

    rows: int = 0
    usable: int = 0
    complete: bool = True
    skipped: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    """Details of the first skipped row, by reason."""
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    faults: dict[str, Skipped] = field(default_factory=dict)
    hashed: set[str] = field(default_factory=set)


def splits_of(config: DataConfig) -> tuple[str, ...]:
    """Return the splits that can be indexed. Raises TrainerError if the dataset cannot be read."""
    return shapes.SPLITS if shapes.world_of(config.dataset) else open_source(config).source.splits


def index(store: Store, config: DataConfig, split: str, limit: int) -> Tally:
    """Index the first `limit` usable questions of a split.

    Raises TrainerError if it cannot be read, StoreError if another process is indexing it; the reason is stored.
    """
    name, path, me = config.dataset, config.path or "", identity.current()
    index_id = begin_index(
        store,
        name=name,
        path=path,
        split=split,
        limit=limit,
        host=me.host,
        boot_id=me.boot_id,
        pid=me.pid,
        pid_started=me.started,
    )
    try:
        dataset, revision, rows = _open(config, split, limit)
        tally = Tally()
        for batch in _batches(rows, tally, limit):
            _keep(store, batch, tally)
            advance_index(store, index_id, tally.usable)
    except BaseException as error:
        # However this ends, record it for those who watch the index.
        fail_index(store, index_id, classify(error)[1] if isinstance(error, Exception) else INTERRUPTED)
        raise
    finish_index(
        store,
        index_id,
        dataset=dataset,
        revision=revision,
        rows=tally.rows,
        usable=tally.usable,
        images=len(tally.hashed),
        complete=tally.complete,
        skipped=dict(tally.skipped.most_common()),
        sizes=_spreads(list(tally.sizes.values())),
    )
    return tally


def _open(config: DataConfig, split: str, limit: int) -> tuple[str, str | None, Iterable[Example | Skipped]]:
    """Return the dataset name of examples, the revision, and the rows in file order."""
    splits = splits_of(config)
    if split not in splits:
        raise TrainerError("data", f"{config.dataset} has no split {split!r}. Choose one of {', '.join(splits)}.")
    drawn = shapes.world_of(config.dataset)
    if drawn:
        world, difficulty = drawn
        # Read one more than wanted, to see whether the split ends there: drawn datasets are endless.
        return config.dataset, None, shapes.examples(difficulty, split, limit + 1, config.seed, world)
    source, revision = open_source(config)
    return source.name, revision, source.read(split)


def _batches(rows: Iterable[Example | Skipped], tally: Tally, limit: int) -> Iterator[list[Example]]:
    """Yield usable rows in small batches, of which the last may be empty."""
    batch: list[Example] = []
    for row in rows:
        if tally.usable == limit:
            tally.complete = False
            break
        tally.rows += 1
        fault = row if isinstance(row, Skipped) else _fault(row, tally)
        if isinstance(row, Skipped) or fault is not None:
            assert fault is not None
            tally.skipped[fault.reason] += 1
            tally.first.setdefault(fault.reason, printable(fault.detail, 200))
            continue
        tally.usable += 1
        batch.append(row)
        if len(batch) == EXAMPLES_AT_ONCE:
            yield batch
            batch = []
    yield batch


def _fault(row: Example, tally: Tally) -> Skipped | None:
    if unfit := splits.unfit(row):
        return Skipped(unfit, row.key)
    return _picture_fault(row.pictures, tally)


def _picture_fault(pictures: Sequence[Picture], tally: Tally) -> Skipped | None:
    """Return why one of the images cannot be used; if all can, record their sizes."""
    sizes: dict[str, tuple[int, int]] = {}
    for picture in pictures:
        identity = picture.identity
        if identity not in tally.sizes and identity not in tally.faults:
            try:
                sizes[identity] = images.original_size(picture.load())
            except PictureError as error:
                tally.faults[identity] = Skipped(error.reason, error.case)
        if identity in tally.faults:
            return tally.faults[identity]
    tally.sizes |= sizes
    return None


def _keep(store: Store, examples: Sequence[Example], tally: Tally) -> None:
    """Store examples and the hashes of their images."""
    ids = store_examples(store, examples)
    stored = get_examples(store, ids)
    rows = []
    for example, example_id in zip(examples, ids, strict=True):
        for picture, sha256 in zip(example.pictures, stored[example_id].images, strict=False):
            if sha256 not in tally.hashed:
                tally.hashed.add(sha256)
                image = images.decode(media_path(store, sha256).read_bytes(), picture.identity)
                rows.append(ImageHashRow(sha256, phash(image), origin(picture.identity)))
    add_image_hashes(store, rows)


def phash(image: Image.Image) -> int:
    """Return a 64-bit perceptual hash of the strongest low frequencies, which resizing hardly changes."""
    return int(str(imagehash.phash(image)), 16)


def origin(name: str) -> str | None:
    """Return the COCO or Visual Genome id in a file name: `coco:9`, `vg:107`."""
    for collection, pattern in _ORIGINS.items():
        if match := pattern.search(name):
            return f"{collection}:{match[1]}"
    return None


def _spreads(sizes: Sequence[tuple[int, int]]) -> dict[str, dict[str, float]]:
    """Return smallest, median and largest width and height, in pixels."""
    if not sizes:
        return {}
    edges = dict(zip(("width", "height"), zip(*sizes, strict=True), strict=True))
    return {
        edge: {"min": min(values), "median": statistics.median(values), "max": max(values)}
        for edge, values in edges.items()
    }
