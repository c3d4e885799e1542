"""Helpers for SQL: upserts, which SQLAlchemy has per dialect, and the columns of row types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.sqlite import Insert

from store.db import checking
from store.db.schema import Base


def upsert(dialect: str, table: type[Base]) -> Insert:
    """Return the dialect's INSERT, which supports `on_conflict_do_update` and `on_conflict_do_nothing`."""
    module = postgresql if dialect == "postgresql" else sqlite
    return module.insert(table.__table__)


def columns(table: type[Base], row: Any, extra: Mapping[str, ColumnElement[Any]] | None = None) -> list[Any]:
    """Return the columns of a NamedTuple, in its order."""
    return [extra[name] if extra and name in extra else table.__table__.c[name] for name in row._fields]


def sound_row(table: type[Base], kind: Any, row: Row[Any]) -> Any:
    """Return the row as the NamedTuple `kind`, with an empty value in place of each invalid one."""
    columns: Any = table.__table__
    return kind(**checking.clear_invalid(columns, row._asdict()))
