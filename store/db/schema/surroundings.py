"""The code of runs, measurements of their machines, and views that users saved."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from store.db.domains import Moment
from store.db.schema.base import Base


class Code(Base):
    """The trainer's source when a job of the run started; one row per start whose code had changed."""

    __tablename__ = "code"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), index=True)
    at: Mapped[Moment]
    revision: Mapped[str] = mapped_column(String(64))
    """The git commit."""
    changed: Mapped[list[Any]]
    """Paths of changed and new files in git's spelling."""
    difference: Mapped[str] = mapped_column(Text)
    """Changes since the commit, as a unified diff without secrets."""
    is_cut: Mapped[bool]
    """Whether the diff was cut because it was too long."""


class MachineSample(Base):
    """A measurement of the machine on which a run's job is; `what` is `cpu`, `memory`, `gpu0/power`, …"""

    __tablename__ = "machine_sample"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    what: Mapped[str] = mapped_column(String(40), primary_key=True)
    at: Mapped[Moment] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[float]
    __table_args__ = {"sqlite_with_rowid": False}


class SavedView(Base):
    """A page's address under a name, shared by all users of the database."""

    __tablename__ = "saved_view"
    page: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    address: Mapped[str] = mapped_column(Text)
    """The part of the address after the question mark."""
    created_at: Mapped[Moment]
