"""Store and read per-token measurements of policy and base, which the trainer makes and the trace inspector shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from store.db.connection import DriverCursor, Store, reading, writing
from store.db.rows import CompletionRow, StoredTokens, TokenRow
from store.db.schema import CompletionTokens
from store.db.sql import upsert
from store.db.values import finite

DIGITS = 4
"""Decimals of a nat that are stored; screens show two."""
ADD_SAMPLED = (
    "INSERT INTO completion_tokens (completion_id, step, exact, ends, entropy, logp, base_logp) VALUES "
    '((SELECT id FROM completion WHERE run_id = ? AND step = ? AND "group" = ? AND "index" = ? AND generation = ?), '
    "?, ?, ?, ?, ?, ?)"
)


def add_sampled(
    cursor: DriverCursor, run_id: int, step: int, rows: Sequence[CompletionRow], measured: Mapping[int, TokenRow]
) -> None:
    """Add measurements of completions that this transaction has just stored for `step`, by their index in `rows`."""
    added = []
    for place, tokens in measured.items():
        row = rows[place]
        lists = [json.dumps(values) for values in _lists(tokens).values()]
        added.append((run_id, step, row.group, row.index, row.generation, step - 1, True, *lists))
    cursor.executemany(ADD_SAMPLED, added)


def put_tokens(store: Store, completion_id: int, tokens: TokenRow, *, step: int) -> None:
    """Store measurements made later, with the weights after `step` updates, in place of earlier ones.

    Raises StoreError if the completion does not exist.
    """
    values = {"step": step, "exact": False, **_lists(tokens)}
    with writing(store) as connection:
        put = upsert(connection.dialect.name, CompletionTokens).values(completion_id=completion_id, **values)
        connection.execute(put.on_conflict_do_update(index_elements=["completion_id"], set_=values))


def get_tokens(store: Store, completion_id: int) -> StoredTokens | None:
    """Return the measurements of a completion, or None if its tokens were not measured."""
    columns = CompletionTokens.__table__.c
    statement = select(columns.step, columns.exact, columns.ends, columns.entropy, columns.logp, columns.base_logp)
    with reading(store) as connection:
        row = connection.execute(statement.where(columns.completion_id == completion_id)).first()
    return None if row is None else StoredTokens(row.step, row.exact, TokenRow(*map(tuple, row[2:])))


def _lists(tokens: TokenRow) -> dict[str, list[Any]]:
    nats = {"entropy": tokens.entropy, "logp": tokens.logp, "base_logp": tokens.base_logp}
    return {"ends": list(tokens.ends)} | {name: [_round(value) for value in row] for name, row in nats.items()}


def _round(value: float | None) -> float | None:
    number = finite(value)
    return None if number is None else round(number, DIGITS)
