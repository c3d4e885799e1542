"""Read counting datasets from the hub: parquet shards with image cells and one or more questions per row.

`datasets` memory-maps an uncompressed copy in its cache, so that no dataset is kept in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from trainer.datasets import files, kinds, questions, traces
from trainer.datasets.example import Example
from trainer.datasets.files import EncodedPicture
from trainer.datasets.images import MISSING, PictureError, Source
from trainer.datasets.questions import RawExample, Skipped
from trainer.datasets.tables import columns, reading
from trainer.datasets.tables.columns import Columns
from trainer.datasets.traces import Traces
from trainer.spec.errors import TrainerError

ARROW = (".arrow", ".feather")
_SHARD = re.compile(r"-(\d{5,})-of-\d{5,}")


class RawQuestion(NamedTuple):
    """A question in a row, not validated yet."""

    question: object
    answer: object
    difficulty: str | None = None


@dataclass(frozen=True)
class Parquet:
    """`pattern` matches the shards in `root`; `images` is the column with an image cell or a list of them."""

    name: str
    root: Path
    pattern: str
    split: str
    images: str
    columns: tuple[str, ...]
    turns: Callable[[dict[str, Any]], list[RawQuestion]]
    trace_file: Path | None = None

    @property
    def needed(self) -> str:
        return self.pattern

    @property
    def splits(self) -> tuple[str, ...]:
        return (self.split,) if self.shards else ()

    @cached_property
    def shards(self) -> list[Path]:
        """Return the shards sorted by name, the order of rows. Raises TrainerError if one is missing."""
        paths = sorted(self.root.glob(self.pattern))
        numbers = [int(match[1]) for path in paths if (match := _SHARD.search(path.name))]
        if numbers and numbers != list(range(len(paths))):
            raise TrainerError(
                "data",
                f"{self.root} does not have all shards of {self.name} from the first on without "
                "a gap, on which the keys "
                "of its questions depend. Download the missing ones.",
            )
        return paths

    @cached_property
    def table(self) -> Any:
        """Return the required columns as a `datasets.Dataset`, with image cells as bytes. Raises TrainerError."""
        return read_shards(self.shards, f"{self.name} in {self.root}", (self.images, *self.columns))

    @cached_property
    def traces(self) -> Traces:
        return traces.load(self.trace_file, len(self.table)) if self.trace_file else Traces()

    @property
    def notes(self) -> tuple[str, ...]:
        return (self.traces.note,) if self.traces.note else ()

    def read(self, split: str) -> Iterator[Example | Skipped]:
        """Yield questions in the order of rows."""
        for number, row in enumerate(self.table):
            pictures = self._pictures(number, row)
            for turn_number, turn in enumerate(self.turns(row)):
                trace = self.traces.accepted(number, turn.question, turn.answer)
                raw = RawExample(
                    f"{number}-{turn_number}",
                    turn.question,
                    turn.answer,
                    pictures,
                    turn.difficulty,
                    None if trace is None else traces.reasoning(trace),
                    {} if trace is None else {"trace": trace},
                )
                yield questions.example(self.name, split, raw)

    def _pictures(self, number: int, row: dict[str, Any]) -> tuple[EncodedPicture, ...]:
        def picture(i: int) -> EncodedPicture:
            return EncodedPicture(
                self._identity(cells[i]),
                lambda: self._bytes(_cells(self.table[number][self.images])[i]),
                str(cells[i]["path"] or f"the image of row {number + 1}")[:200],
            )

        cells = _cells(row[self.images])
        return tuple(picture(i) for i in range(len(cells)))

    def _identity(self, cell: dict[str, Any]) -> str:
        try:
            return files.digest(self._bytes(cell))
        except PictureError:
            return f"{MISSING}: {cell.get('path')}"

    def _bytes(self, cell: dict[str, Any]) -> Source:
        """Return the bytes in an image cell, or the file next to its shard that it names."""
        data = cell.get("bytes")
        return data if data is not None else files.in_folder(self.shards[0].parent, cell.get("path")).read()


def read_shards(shards: Sequence[Path], dataset: str, names: Sequence[str] | None = None) -> Any:
    """Return the wanted columns as a `datasets.Dataset`, with image cells as bytes. Raises TrainerError.

    The default is the columns of a table of questions, so that no other column can make it unreadable.
    """
    import pyarrow
    import pyarrow.parquet
    from datasets import Dataset, DatasetInfo, Features
    from datasets.exceptions import DatasetGenerationError
    from datasets.table import InMemoryTable

    try:
        for path in shards:
            with path.open("rb") as file:
                if pointer := kinds.pointer(file.read(kinds.HEAD)):
                    raise TrainerError("data", f"{path} is {pointer}.")
        are_arrow = shards[0].suffix.lower() in ARROW
        schemas = {path: _arrow(path).schema if are_arrow else pyarrow.parquet.read_schema(path) for path in shards}
        schema = schemas[shards[0]]
        if names is None:
            names = _of_questions({path: each.names for path, each in schemas.items()})
        else:
            columns_found = Columns(str(shards[0]), f"Is it a copy of {dataset}?")
            columns_found.add(schema.names)
            columns_found.check([(column,) for column in names])
        chosen = pyarrow.schema([schema.field(column) for column in names])
        # Without the hub's schema, an image cell stays a pair of bytes and path.
        features = Features({**Features.from_arrow_schema(chosen), **_classes(schema, chosen.names)})
        if are_arrow:
            tables = [_arrow(path).select(chosen.names).replace_schema_metadata() for path in shards]
            return Dataset(InMemoryTable(pyarrow.concat_tables(tables)), info=DatasetInfo(features=features))
        return Dataset.from_parquet([str(path) for path in shards], features=features, columns=chosen.names)
    except (pyarrow.ArrowException, DatasetGenerationError, OSError, ValueError) as error:
        fault = str(error.__cause__ or error).strip().splitlines()[0].rstrip(".")
        raise TrainerError("data", f"The shards of {dataset} cannot be read: {fault}.") from error


def _arrow(path: Path) -> Any:
    """Return the memory-mapped table of an Arrow file: a stream, as 🤗 Datasets writes it, or a Feather file."""
    import pyarrow

    try:
        return pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all()
    except pyarrow.ArrowInvalid:
        return pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()


def _classes(schema: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return the columns with class numbers, whose names 🤗 Datasets stores in the schema."""
    from datasets import ClassLabel

    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        class_columns = {name: noted[name] for name in names if noted.get(name, {}).get("_type") == "ClassLabel"}
        return {name: ClassLabel(names=feature["names"]) for name, feature in class_columns.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _of_questions(names: Mapping[Path, list[str]]) -> list[str]:
    """Return the columns of a table of questions, given all columns of each shard. Raises TrainerError."""
    first, *others = names
    known_columns = {
        path: [name for name in columns_of_path if columns.name(name) in reading.KNOWN]
        for path, columns_of_path in names.items()
    }
    columns_found = Columns(str(first), "Use these names for the columns.")
    columns_found.add(names[first])
    columns_found.check()
    for path in others:
        if set(known_columns[path]) != set(known_columns[first]):
            raise TrainerError(
                "data",
                f"{path} has the columns {columns.listed(known_columns[path])}, but {first.name} has "
                f"{columns.listed(known_columns[first])}. All shards must have the same columns.",
            )
    return known_columns[first]


def _cells(value: Any) -> list[dict[str, Any]]:
    """Return a row's image cells without empty ones."""
    cells = value if isinstance(value, list) else [value]
    return [cell for cell in cells if cell and (cell["bytes"] is not None or cell["path"])]


def tallyqa_test(root: Path) -> Parquet:
    def turns(row: dict[str, Any]) -> list[RawQuestion]:
        return [
            RawQuestion(q["question"], q["answer"], questions.difficulty(q["is_simple"])) for q in row["qa"] or [] if q
        ]

    return Parquet("tallyqa-test", root, "data/test-*.parquet", "test", "image", ("qa",), turns)


def countqa(root: Path) -> Parquet:
    def turns(row: dict[str, Any]) -> list[RawQuestion]:
        texts, answers = row["questions"] or [], row["answers"] or []
        return [RawQuestion(q, answers[i] if i < len(answers) else None) for i, q in enumerate(texts)]

    return Parquet("countqa", root, "data/test-*.parquet", "test", "image", ("questions", "answers"), turns)


def quantity(root: Path, trace_file: Path | None) -> Parquet:
    """Return Quantity-23K in `root`, where its `trace_file` is searched by default."""

    def turns(row: dict[str, Any]) -> list[RawQuestion]:
        return [RawQuestion(row["question"], row["answer"])]

    return Parquet(
        "quantity-23k",
        root,
        "data/train-*.parquet",
        "train",
        "image",
        ("question", "answer"),
        turns,
        trace_file or root / traces.FILE_NAME,
    )


def cauldron(root: Path) -> Parquet:
    def turns(row: dict[str, Any]) -> list[RawQuestion]:
        return [RawQuestion(text["user"], text["assistant"]) for text in row["texts"] or [] if text]

    return Parquet("cauldron", root, "tallyqa/train-*.parquet", "train", "images", ("texts",), turns)
