"""Read a user's own dataset: a folder with a table `examples` (JSON, JSON lines, CSV, Parquet, Arrow) and images.

Columns: `question`, `answer`, and `image` (a path relative to the folder) or `images` (a list of them); optional are
`key`, `split` (train, val or test), `difficulty` and `reference`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from trainer.datasets import files, parquet, questions
from trainer.datasets.example import Example
from trainer.datasets.pictures import pictures
from trainer.datasets.questions import RawExample, Skipped
from trainer.datasets.tables import columns, values
from trainer.datasets.tables.columns import Columns
from trainer.datasets.tables.reading import Table
from trainer.datasets.tables.rows import rows
from trainer.spec.errors import TrainerError

SPLITS = ("train", "val", "test")
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet", *parquet.ARROW)
TABLES = frozenset(f"examples{suffix}" for suffix in SUFFIXES)
OTHERS = (
    ".xlsx",
    ".xls",
    ".ods",
    ".numbers",
    ".yaml",
    ".yml",
    ".xml",
    ".pkl",
    ".pickle",
    ".h5",
    ".hdf5",
    ".db",
    ".sqlite",
)
"""Suffixes of files that may be tables but are not read."""
PACKED = (".gz", ".zip", ".zst", ".bz2", ".xz", ".7z", ".tgz")
SAMPLES = (".tar",)
"""Suffix of WebDataset's shards."""
ADVICE = (
    (SUFFIXES, "rename the table"),
    (OTHERS, "save it as CSV"),
    (PACKED, "unpack it"),
    (SAMPLES, "unpack it, and name its images in a table"),
)
COCO = ("instances_", "captions_", "person_keypoints_")
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
SHARDS = ("examples-*.parquet", "data-*-of-*.arrow")
"""Names of a table's parts; the latter are those of `Dataset.save_to_disk`."""
NO_SPLIT = "split is not train, val or test"
KEY_TWICE = "key is a duplicate"


class _Item(NamedTuple):
    """A row by plain column names, or the reason why it is invalid; `again` loads its images again."""

    row: dict[str, Any] | None
    fault: str = ""
    again: Callable[[], object] | None = None


@dataclass(frozen=True)
class FolderDataset:
    root: Path

    @cached_property
    def list_files(self) -> tuple[Path, ...]:
        """Return the table or its shards. Raises TrainerError if there is none."""
        paths = sorted(path for path in self.root.iterdir() if path.is_file())
        for suffix in SUFFIXES:
            if named_tables := [path for path in paths if path.name.lower() == f"examples{suffix}"]:
                return (named_tables[0],)
        for pattern in SHARDS:
            if shards := [path for path in paths if path.match(pattern)]:
                return tuple(shards)
        hints = "".join(
            f" Found {columns.listed(others)}: {advice}."
            for suffixes, advice in ADVICE
            if (others := [path.name for path in paths if path.suffix.lower() in suffixes])
        )
        below = (path for path in sorted(self.root.glob("*/*")) if path.suffix.lower() in SUFFIXES and path.is_file())
        if not hints and (path := next(below, None)) is not None:
            is_coco = path.name.startswith(COCO)
            advice = "COCO's objects are not questions" if is_coco else "use its folder, and rename the table"
            hints = f" Found {path.relative_to(self.root)}: {advice}."
        elif not hints and any(path.suffix.lower() in PICTURES for path in self.root.glob("*/*")):
            hints = " Found only images: name each in a row, with a question and an answer."
        raise TrainerError(
            "data",
            f"{self.root} has no examples.jsonl, .json, .csv, .tsv, .parquet or .arrow. Create one of them.{hints}",
        )

    @cached_property
    def name(self) -> str:
        """The dataset's name, which changes with its table, so that stored examples are not mixed up with others."""
        digests = [files.digest(path) for path in self.list_files]
        version = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
        return f"folder:{self.root.resolve().name[:100]}@{version[:8]}"

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about guesses made in reading."""
        first = self.list_files[0]
        guesses = [] if self._is_parquet else [Table(first).encoding.note]
        tables = (path.name for path in self.root.iterdir() if path.name.lower() in TABLES)
        if others := sorted(set(tables) - {path.name for path in self.list_files}):
            guesses.append(f"{columns.listed(others)} is not read, because {first.name} exists.")
        for alias, required in self._splits_and_aliases[1].items():
            guesses.append(f"The column {columns.printable(alias, 60)} is read as the {required}.")
        return tuple(note for note in guesses if note)

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The splits in the table. Raises TrainerError if a required column is in no row, or if there are no rows."""
        return self._splits_and_aliases[0]

    @cached_property
    def _splits_and_aliases(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """The splits in the table, and the required columns for which others stand."""
        columns_found = Columns(" and ".join(map(str, self.list_files[:2])), "Use these names for the columns.")
        given_splits, faults = set(), dict[str, None]()
        for item in self._items({}):
            if item.fault:
                faults[item.fault] = None
            if item.row is not None:
                given_splits.add(_split(item.row))
                columns_found.add(item.row)
        if not columns_found.found:
            details = f" ({', '.join(faults)})" if faults else ""
            raise TrainerError("data", f"{self.list_files[0]} has no row that can be read{details}. Check the file.")
        columns_found.check(by_alias=True)
        return tuple(split for split in SPLITS if split in given_splits) or SPLITS[:1], columns_found.aliases

    def read(self, split: str) -> Iterator[Example | Skipped]:
        """Yield rows in file order; invalid rows and those of unknown splits are counted with the first split."""
        seen_keys: set[str] = set()
        is_first = split == self.splits[0]
        for number, item in enumerate(self._items(self._splits_and_aliases[1])):
            if item.row is None:
                if is_first and item.fault:
                    yield Skipped(item.fault, f"row {number + 1}")
                continue
            row_split = _split(item.row)
            if row_split not in SPLITS and is_first:
                yield Skipped(NO_SPLIT, f"row {number + 1}: {row_split}")
            if row_split != split:
                continue
            row_key = questions.identifier(item.row.get("key"))
            key, place = row_key or f"{number}-0", "" if row_key else f"row {number + 1}"
            if key in seen_keys:
                yield Skipped(KEY_TWICE, key)
                continue
            seen_keys.add(key)
            yield questions.example(self.name, split, self._raw_example(key, item, place))

    @property
    def _is_parquet(self) -> bool:
        return self.list_files[0].suffix.lower() in (".parquet", *parquet.ARROW)

    @cached_property
    def _shards(self) -> Any:
        return parquet.read_shards(self.list_files, str(self.root))

    def _items(self, aliases: Mapping[str, str]) -> Iterator[_Item]:
        if not self._is_parquet:
            for record in Table(self.list_files[0]).records():
                row = record.row if record.row is None else columns.rename_keys(record.row, aliases)
                yield _Item(row, record.fault)
            return
        for cells, again in rows(self._shards, ""):
            assert again is not None
            yield _Item(columns.rename_keys(cells, aliases), "", partial(_cell_of, again, aliases))

    def _raw_example(self, key: str, item: _Item, place: str) -> RawExample:
        row = item.row or {}
        return RawExample(
            key,
            row.get("question"),
            row.get("answer"),
            pictures(cell(row), (self.root,), item.again),
            questions.identifier(row.get("difficulty")),
            questions.identifier(row.get("reference")),
            place=place,
        )


def _split(row: Mapping[str, Any]) -> str:
    cell_text = values.text(row.get("split"))
    split = SPLITS[0] if cell_text is None else cell_text.strip().lower()
    return "val" if split in ("validation", "valid", "dev") else split


def _cell_of(again: Callable[[], Any], aliases: Mapping[str, str]) -> object:
    return cell(columns.rename_keys(again(), aliases))


def cell(row: Mapping[str, Any]) -> object:
    """Return the cell with a row's images."""
    return row.get("image") if values.is_absent(row.get("images")) else row["images"]
