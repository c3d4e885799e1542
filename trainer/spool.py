"""Steps that the database did not take, in a file, a line each, until it takes them. Knows nothing of databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from store import private
from store.rows import CompletionRow, TokenRow

NAME = "unwritten.jsonl"


@dataclass(frozen=True)
class StepRecord:
    """All that one update brought; the completions do not know their examples' ids yet."""

    step: int
    metrics: dict[str, float | None]
    at: float
    tokens: float | None
    completions: list[CompletionRow] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    """What a dataset row is recognised by, for each completion."""
    measured: dict[int, TokenRow] = field(default_factory=dict)

    def with_examples(self, ids: list[int | None]) -> list[CompletionRow]:
        return [replace(row, example_id=id) for row, id in zip(self.completions, ids, strict=True)]


@dataclass(frozen=True)
class Spool:
    """Safe against a kill: a line that was not finished is a step that was lost, and none that comes before it is."""

    path: Path

    def add(self, record: StepRecord) -> None:
        """Raises OSError when the file cannot be written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with private.append(self.path) as file:
            file.write(json.dumps(asdict(record)).encode("ascii") + b"\n")

    def waiting(self) -> Iterator[StepRecord]:
        if not self.path.exists():
            return
        with self.path.open(encoding="ascii") as file:
            for line in file:
                if line.endswith("\n"):
                    yield _record(json.loads(line))

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)


def _record(values: dict[str, Any]) -> StepRecord:
    completions = [CompletionRow(**row | _spans(row)) for row in values["completions"]]
    measured = {int(place): TokenRow(*map(tuple, row)) for place, row in values["measured"].items()}
    return StepRecord(**values | {"completions": completions, "measured": measured})


def _spans(row: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(row[name]) if row[name] else None for name in ("think", "answer_span")}
