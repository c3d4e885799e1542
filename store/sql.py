"""The one statement that SQLite and PostgreSQL share but SQLAlchemy spells by dialect."""

from __future__ import annotations

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.sqlite import Insert

from store.schema import Base


def upsert(dialect: str, table: type[Base]) -> Insert:
    """An INSERT that can take `on_conflict_do_update` and `on_conflict_do_nothing`; `dialect` is its name."""
    module = postgresql if dialect == "postgresql" else sqlite
    return module.insert(table.__table__)
