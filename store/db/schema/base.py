"""The base class of all tables, and the table that describes the database itself."""

from __future__ import annotations

from sqlalchemy import MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from store.db.domains import TYPES

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
NAMES_FILES = {"names_files": True}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = TYPES


class Database(Base):
    """Distinguishes this database from its copies; has one row (see `store.db.ownership`)."""

    __tablename__ = "database"
    uid: Mapped[str] = mapped_column(String(16), primary_key=True)
    place: Mapped[str | None] = mapped_column(Text)
    """Path or URL when the database was last opened for writing; NULL in a copy that has not been opened."""
