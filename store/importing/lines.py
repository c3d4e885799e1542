"""Import metrics that a tool writes line by line, one step per line, as many tools without a reader of their own do.

A file is a table (CSV, TSV), JSON lines (`trainer_log.jsonl` of LLaMA-Factory, `logging.jsonl` of ms-swift), or text
with `name:value` pairs (torchtune's and verl's logs). A line without a step holds no metrics.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from store.db.connection import StoreError
from store.importing.files import as_json, below, encoding_of, places, read_each
from store.importing.found import Found, FoundRun, as_number, as_step

STEPS = ("step", "global_step", "_step", "steps", "current_steps", "current_step", "iteration", "iter", "update")
TOTALS = ("total_steps", "max_steps", "num_steps")
OF_TOTAL = "global_step/max_steps"
"""How ms-swift writes step and total: `3/100`."""
TABLES, LINES, TEXTS = (".csv", ".tsv"), (".jsonl", ".ndjson"), (".txt", ".log")
NO_STEP = "Left out because they have no step"
_PAIR = re.compile(r"([A-Za-z][\w/@.()%-]*)\s*[:=]\s*([-+]?(?:[0-9][0-9.eE+-]*|nan|inf))(?=$|[\s,|;}])", re.IGNORECASE)
_STEP = re.compile(r"\A\W{0,3}(?:global_)?(?:step|iter(?:ation)?|update)[ :=]+([0-9]{1,10})\b", re.IGNORECASE)
_LONGEST_LINE = 2**20
Entries = Iterator[tuple[Any, dict[str, Any]]]
"""The step of each line, and its values by name."""


def runs(path: str) -> Found:
    """Return a run for each file with steps at or below `path`."""
    files = [file for file in below(path, "*") if file.suffix.lower() in _READERS]
    root = Path(path).expanduser().absolute()
    if root.is_file() and not files:
        raise StoreError(f"{path} is neither a table (.csv, .tsv) nor lines (.jsonl, .txt, .log).")
    found, unread = read_each(files, lambda file: _run(file, root.parent if root.is_file() else root))
    return Found(found, [told for told in unread if root.is_file() or not told.endswith(_NO_TEXT_STEPS)])


_NO_STEPS = "has no steps. Name the column of the step `step`."
_NO_TEXT_STEPS = "has no lines that begin with a step, such as `step:3 loss:0.5`."
"""Not said of each text file in a folder, most of which are no logs."""


def _run(file: Path, root: Path) -> FoundRun:
    """Return the run in a file. Raises StoreError if no line has a step."""
    names = places(file.with_suffix(""), root)
    run = FoundRun(file.name, names[0], names[1:], own_steps=False, folder=None)
    for step, values in _READERS[file.suffix.lower()](file):
        place = as_step(step)
        if place is None:
            run.left_out[NO_STEP].update(name for name, value in values.items() if as_number(value) is not None)
            continue
        if not run.metrics:
            run.identity = f"{file.name}\n{place}\n{sorted(values.items(), key=str)}"
        run.add(place, values)
    if not run.metrics:
        raise StoreError(f"{file} {_NO_TEXT_STEPS if file.suffix.lower() in TEXTS else _NO_STEPS}")
    return run


def _table(file: Path) -> Entries:
    with file.open(encoding=_encoding(file), errors="replace", newline="") as stream:
        header = stream.readline(_LONGEST_LINE)
        delimiter = max(",;\t|", key=header.count)
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        for row in csv.reader(stream, delimiter=delimiter):
            yield _entry({name: _cell(cell) for name, cell in zip(names, row, strict=False) if cell.strip()})


def _objects(file: Path) -> Entries:
    with file.open(encoding=_encoding(file), errors="replace") as stream:
        for line in stream:
            values = as_json(line)
            if isinstance(values, dict):
                yield _entry(values)


def _text(file: Path) -> Entries:
    with file.open(encoding=_encoding(file), errors="replace") as stream:
        for line in stream:
            if begin := _STEP.match(line[:_LONGEST_LINE]):
                pairs = _PAIR.findall(line[begin.end() : _LONGEST_LINE])
                yield int(begin[1]), {name: _cell(value) for name, value in pairs}


def _entry(values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Split an entry into its step and its other values."""
    named = {str(name).lower(): name for name in values}
    if OF_TOTAL in values:
        step: Any = str(values[OF_TOTAL]).partition("/")[0]
    else:
        step = next((values[named[name]] for name in STEPS if name in named), None)
    number = as_number(step)
    own = (*STEPS, *TOTALS, OF_TOTAL)
    return number, {name: value for name, value in values.items() if str(name).lower() not in own}


def _cell(text: str) -> str:
    """Return a cell with NaN and infinity as trackers write them."""
    return "NaN" if text.strip().lower().lstrip("+-") in ("nan", "inf", "infinity") else text.strip()


def _encoding(file: Path) -> str:
    found = encoding_of(file)
    return "utf-8-sig" if found == "utf-8" else found


_READERS: dict[str, Callable[[Path], Entries]] = {
    **dict.fromkeys(TABLES, _table),
    **dict.fromkeys(LINES, _objects),
    **dict.fromkeys(TEXTS, _text),
}
