"""Read tables of questions: CSV in any dialect, JSON lines, or a JSON list.

Rows are read from the file each time, so that no table is kept in memory.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple

from trainer.datasets import kinds
from trainer.datasets.tables import columns, encodings
from trainer.datasets.tables.columns import Columns
from trainer.datasets.tables.rows import by_columns
from trainer.spec.errors import TrainerError

KNOWN = frozenset(("question", "answer", "image", "images", "key", "split", "difficulty", "reference"))
_KNOWN = KNOWN.union(*columns.ALIASES.values())
NOT_JSON = "line is not valid JSON"
NO_OBJECT = "row is not an object"
MORE_CELLS = "row has more cells than the first line names: quote what holds a delimiter"
_DELIMITERS = (",", ";", "\t", "|")
_LOOKED_AT = 20
MOST_CELL = 64 * 1024**2
csv.field_size_limit(MOST_CELL)


class Record(NamedTuple):
    """A row by plain column names, or the reason why it is invalid. A blank line has neither."""

    row: dict[str, Any] | None
    fault: str = ""


@dataclass(frozen=True)
class Table:
    path: Path

    @cached_property
    def encoding(self) -> encodings.Encoding:
        """The file's encoding. Raises TrainerError if it is not text."""
        with self.path.open("rb") as file:
            kind = kinds.of(file.read(kinds.HEAD))
        if kind and kind != kinds.EMPTY and not kind.endswith("JPEG or PNG"):
            raise TrainerError("data", f"{self.path} is {kind}.")
        return encodings.of(self.path)

    @cached_property
    def is_json(self) -> bool:
        start, lines = self._start
        return start in "[{" or any(isinstance(_json(line), dict) for line in lines)

    @cached_property
    def _start(self) -> tuple[str, list[str]]:
        """Return the first non-space character, and the first lines."""
        with self._opened("\n") as file:
            # A whole list may be in one line.
            text = file.read(encodings.CHUNK)
        lines = [line for line in text.split("\n", _LOOKED_AT)[:_LOOKED_AT] if line.strip()]
        return text.replace("\ufeff", "").lstrip()[:1] or " ", lines

    def records(self) -> Iterator[Record]:
        """Yield every row in file order. Raises TrainerError."""
        try:
            yield from self._json() if self.is_json else self._delimited()
        except OSError as error:
            raise TrainerError("data", f"Cannot read {self.path}: {error.strerror}. Check data.path.") from None

    def _opened(self, newline: str) -> IO[str]:
        return self.path.open(encoding=self.encoding.codec, newline=newline)

    def _json(self) -> Iterator[Record]:
        start, lines = self._start
        if start != "[" and len(lines) > 1 and any(isinstance(_json(line), dict) for line in lines):
            # Only \n ends a line, because texts may have other line breaks.
            with self._opened("\n") as file:
                yield from (_record(_json(line)) for line in file)
            return
        with self._opened("") as file:
            values = _Values(file, self.path)
            first = next(values, None)
            second = next(values, None)
            if isinstance(first, dict) and second is None and values.ended:
                rows = _rows_within({columns.name(name): cells for name, cells in first.items()})
                yield from map(_record, rows if rows is not None else [first])
                return
            yield from map(_record, (value for value in (first, second) if value is not None or not values.ended))
            yield from map(_record, values)

    def _delimited(self) -> Iterator[Record]:
        with self._opened("") as file:
            lines = _Lines(file)
            dialect, names = self._header(lines)
            self._check_names(names)
            names = [columns.name(name) for name in names]
            reader = csv.reader(lines, **dialect)
            before = lines.number
            try:
                for row in reader:
                    if lines.ended:
                        raise csv.Error("unexpected end of data")
                    before = lines.number
                    if any(cell.strip() for cell in row[len(names) :]):
                        yield Record(None, MORE_CELLS)
                    elif row:
                        is_blank = not any(cell.strip() for cell in row)
                        yield Record(None if is_blank else dict.fromkeys(names) | dict(zip(names, row, strict=False)))
            except csv.Error as error:
                fault = _fault(error, before + 1, lines)
                raise TrainerError("data", f"{self.path} is not valid CSV ({fault}). Fix the file.") from None

    def _header(self, lines: _Lines) -> tuple[dict[str, Any], list[str]]:
        """Return the file's CSV dialect and the cells of its first line, which is consumed."""
        declared: str | None = None
        for text in lines:
            if text.strip("\ufeff\r\n").lower().startswith("sep=") and len(text.strip("\ufeff\r\n")) == 5:
                declared = text.strip("\ufeff\r\n")[4]
                continue
            if text.strip():
                return min(
                    (_split(text, delimiter) for delimiter in ([declared] if declared else _DELIMITERS)),
                    key=lambda split: (-len(_KNOWN & {columns.name(name) for name in split[1]}), -len(split[1])),
                )
        return {}, []

    def _check_names(self, cells: list[str]) -> None:
        names = [columns.name(name) for name in cells]
        twice = [name for name in dict.fromkeys(names) if name in KNOWN and names.count(name) > 1]
        if twice:
            raise TrainerError("data", f"{self.path} has the column {twice[0]} twice. Rename one of them.")
        columns_found = Columns(str(self.path), "Name the columns in the first line.")
        columns_found.add(cells)
        columns_found.check(by_alias=True)


class _Lines:
    """Iterates over the lines of a file and knows whether the last has been read."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self.number = 0
        self.ended = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.file.readline()
        if not line:
            self.ended = True
            raise StopIteration
        self.number += 1
        return line


class _Values:
    """Iterates over the values of a JSON list or of concatenated JSON texts, with few in memory at a time."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self.file, self.path = file, path
        self.text = ""
        self.place = 0
        self.ended = False
        self.decoder = json.JSONDecoder()

    def __iter__(self) -> _Values:
        return self

    def __next__(self) -> Any:
        chunk_size = encodings.CHUNK
        while True:
            while self.place < len(self.text) and self.text[self.place] in "[], \t\r\n\ufeff":
                self.place += 1
            try:
                if self.place < len(self.text):
                    value, self.place = self.decoder.raw_decode(self.text, self.place)
                    return value
                fault = None
            except (ValueError, RecursionError) as error:
                fault = str(error).splitlines()[0]
            more = self.file.read(chunk_size) if len(self.text) - self.place < MOST_CELL else ""
            if not more:
                self.ended = True
                if fault is None:
                    raise StopIteration
                raise TrainerError("data", f"{self.path} is not valid JSON ({fault}). Fix the file.")
            self.text, self.place = self.text[self.place :] + more, 0
            # Do not parse a long value again after every part of it.
            chunk_size *= 2


def _fault(error: csv.Error, first_line: int, lines: _Lines) -> str:
    """Return what is wrong in the row that begins at line `first_line`."""
    if lines.ended:
        return f"the quote opened in line {first_line} is not closed"
    if "expected after" in str(error):
        return f"line {lines.number}: a cell that contains a quote must be quoted, with the inner quote doubled"
    return str(error)


def _split(text: str, delimiter: str) -> tuple[dict[str, Any], list[str]]:
    plain = next(csv.reader([text], delimiter=delimiter), [])
    dialect: dict[str, Any] = {"delimiter": delimiter}
    dialect["skipinitialspace"] = any(name.startswith(" ") for name in plain[1:])
    # Otherwise the csv module silently drops quotes and merges rows. Blanks after a quote must be accepted.
    dialect["strict"] = not any(name.endswith(" ") for name in plain[:-1])
    return dialect, next(csv.reader([text], **dialect | {"strict": False}), [])


def _record(value: object) -> Record:
    if isinstance(value, dict):
        return Record(columns.rename_keys(value))
    return Record(None, NOT_JSON if value is _BROKEN else NO_OBJECT) if value is not _BLANK else Record(None)


def _rows_within(content: dict[str, Any]) -> list[dict[Any, Any]] | None:
    """Return the rows of one object: under its only key, under a key each, or by columns; None for anything else."""
    inner = next(iter(content.values())) if len(content) == 1 else list(content.values())
    questions = {"question", *columns.ALIASES["question"]}
    if isinstance(inner, list) and inner and all(isinstance(row, dict) and row.keys() & questions for row in inner):
        return inner
    return by_columns(content)


_BROKEN = object()
_BLANK = object()


def _json(line: str) -> object:
    if not line.strip("\ufeff \t\r\n"):
        return _BLANK
    try:
        return json.loads(line.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return _BROKEN
