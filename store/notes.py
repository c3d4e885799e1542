"""Users' tags and notes on completions and predictions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from sqlalchemy import delete, select

from store.db.connection import Store, StoreError, reading, writing
from store.db.schema import Completion, TraceNote, TraceTag
from store.db.sql import upsert
from store.db.values import clean

TraceKind = Literal["completion", "prediction"]
LONGEST_TAG, LONGEST_NOTE = 100, 10_000

PAGE = 500


class Remarks(NamedTuple):
    """The tags and the note of a trace."""

    tags: tuple[str, ...] = ()
    note: str = ""


def tag_traces(store: Store, kind: TraceKind, ids: Iterable[int], name: str) -> None:
    """Add a tag to traces that do not have it. Raises StoreError for an empty or very long tag."""
    tag = clean(name).strip()
    if not 0 < len(tag) <= LONGEST_TAG:
        raise StoreError(f"A tag must have 1 to {LONGEST_TAG} characters.")
    rows = [{f"{kind}_id": id, "name": tag} for id in ids]
    if rows:
        with writing(store) as connection:
            connection.execute(upsert(connection.dialect.name, TraceTag).on_conflict_do_nothing(), rows)


def untag_trace(store: Store, kind: TraceKind, id: int, name: str) -> None:
    with writing(store) as connection:
        connection.execute(delete(TraceTag).where(_owner(TraceTag, kind) == id, TraceTag.name == clean(name)))


def note_trace(store: Store, kind: TraceKind, id: int, text: str) -> None:
    """Replace the note of a trace; an empty one removes it. Raises StoreError for a very long one."""
    note = clean(text).strip()
    if len(note) > LONGEST_NOTE:
        raise StoreError(f"A note can have at most {LONGEST_NOTE:,} characters. Shorten it.")
    with writing(store) as connection:
        connection.execute(delete(TraceNote).where(_owner(TraceNote, kind) == id))
        if note:
            add = upsert(connection.dialect.name, TraceNote)
            connection.execute(add.values({f"{kind}_id": id, "text": note}))


def list_trace_tags(store: Store) -> list[str]:
    """Return every tag in use, sorted by name."""
    with reading(store) as connection:
        return list(connection.scalars(select(TraceTag.name).distinct().order_by(TraceTag.name)))


def list_tagged(store: Store, run_id: int, limit: int) -> dict[int, tuple[str, ...]]:
    """Return the tags of the first `limit` tagged completions of a run, by id in the order of their steps."""
    tagged = select(Completion.id).join(TraceTag, TraceTag.completion_id == Completion.id)
    tagged = tagged.where(Completion.run_id == run_id).group_by(Completion.id, Completion.step)
    with reading(store) as connection:
        ids = list(connection.scalars(tagged.order_by(Completion.step, Completion.id).limit(limit)))
    remarks = get_remarks(store, "completion", ids)
    return {id: remarks[id].tags for id in ids if id in remarks}


def get_remarks(store: Store, kind: TraceKind, ids: Iterable[int]) -> dict[int, Remarks]:
    """Return tags and notes by trace id; traces without any are left out."""
    sorted_ids = sorted(set(ids))
    remarks_by_id: dict[int, Remarks] = {}
    with reading(store) as connection:
        for start in range(0, len(sorted_ids), PAGE):
            part = sorted_ids[start : start + PAGE]
            tag_owner, note_owner = _owner(TraceTag, kind), _owner(TraceNote, kind)
            tags = select(tag_owner, TraceTag.name).where(tag_owner.in_(part)).order_by(TraceTag.name)
            for id, name in connection.execute(tags):
                remarks = remarks_by_id.get(id, Remarks())
                remarks_by_id[id] = remarks._replace(tags=(*remarks.tags, name))
            for id, text in connection.execute(select(note_owner, TraceNote.text).where(note_owner.in_(part))):
                remarks_by_id[id] = remarks_by_id.get(id, Remarks())._replace(note=text)
    return remarks_by_id


def _owner(table: type[TraceTag] | type[TraceNote], kind: TraceKind) -> Any:
    return table.completion_id if kind == "completion" else table.prediction_id
