"""Store the code of runs: the commit and later changes, at each start whose code differs from that of the last."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import insert, select

from store.db import checking
from store.db.connection import Store, reading, writing
from store.db.redaction import redact
from store.db.schema import Code
from store.db.values import clean

MOST_FILES = 500


class Source(NamedTuple):
    """A state of the code: `changed` are paths, `difference` is a unified diff, `is_cut` says whether it was cut."""

    revision: str
    changed: tuple[str, ...] = ()
    difference: str = ""
    is_cut: bool = False


class KeptSource(NamedTuple):
    at: float
    source: Source


def add_code(store: Store, run_id: int, source: Source) -> None:
    """Store the code with which a job of the run starts, without secrets, unless it is unchanged."""
    safe = source._replace(
        revision=clean(source.revision)[:64],
        changed=tuple(clean(path) for path in source.changed[:MOST_FILES]),
        difference=clean(without_secrets(source.difference)),
    )
    before = read_code(store, [run_id])[run_id]
    if before and before[-1].source == safe:
        return
    values = safe._asdict() | {"changed": list(safe.changed)}
    with writing(store) as connection:
        connection.execute(insert(Code).values(run_id=run_id, at=time.time(), **values))


def read_code(store: Store, run_ids: Sequence[int]) -> dict[int, list[KeptSource]]:
    """Return the code of each run, oldest start first; runs without code are left out."""
    columns = (Code.run_id, Code.at, Code.revision, Code.changed, Code.difference, Code.is_cut)
    sources_by_run: dict[int, list[KeptSource]] = {id: [] for id in run_ids}
    table: Any = Code.__table__
    with reading(store) as connection:
        for row in connection.execute(select(*columns).where(Code.run_id.in_(run_ids)).order_by(Code.id)):
            sound = checking.clear_invalid(table, row._asdict())
            changed = tuple(map(str, sound["changed"]))
            source = Source(sound["revision"], changed, sound["difference"], sound["is_cut"])
            sources_by_run[row.run_id].append(KeptSource(sound["at"], source))
    return sources_by_run


def without_secrets(difference: str) -> str:
    """Return a unified diff without its secrets.

    Removed, added and context lines are searched without the sign before them, which would hide the beginning of words
    and split secrets of several lines.
    """
    parts = []
    for sign, lines in groupby(difference.splitlines(), key=lambda line: line[:1] if line[:1] in tuple("+- ") else ""):
        bare = redact("\n".join(line[len(sign) :] for line in lines))
        parts += [sign + line for line in bare.split("\n")]
    return "\n".join(parts)


def by_file(difference: str) -> dict[str, str]:
    """Return the part for each file of a unified git diff, by path."""
    lines_by_path: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in difference.splitlines():
        if line.startswith("diff --git "):
            lines = lines_by_path.setdefault(line.rpartition(" b/")[2], [])
        lines.append(line)
    return {path: "\n".join(part) for path, part in lines_by_path.items()}
