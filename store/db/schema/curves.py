"""Updates of runs, and their metrics."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from store.db.domains import Moment, Natural
from store.db.schema.base import Base


class Step(Base):
    """An update of a run's weights; its time and token count are the other two x axes."""

    __tablename__ = "step"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[Natural] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[Moment]
    tokens: Mapped[float | None]
    """Tokens since the run began, as counted by the trainer."""
    __table_args__ = {"sqlite_with_rowid": False}


class MetricName(Base):
    __tablename__ = "metric_name"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)


class Metric(Base):
    """A metric's value at a step; NULL where the trainer reported none (never NaN or infinite)."""

    __tablename__ = "metric"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    name_id: Mapped[int] = mapped_column(ForeignKey("metric_name.id"), primary_key=True)
    step: Mapped[Natural] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[float | None]
    __table_args__ = {"sqlite_with_rowid": False}


class MetricRollup(Base):
    """Lowest, highest and mean value of a metric over `width` steps beginning with `start`; see `store.rollups`."""

    __tablename__ = "metric_rollup"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    name_id: Mapped[int] = mapped_column(ForeignKey("metric_name.id"), primary_key=True)
    width: Mapped[Natural] = mapped_column(primary_key=True, autoincrement=False)
    start: Mapped[Natural] = mapped_column(primary_key=True, autoincrement=False)
    n: Mapped[Natural]
    """Number of known values; ranges without values have no row."""
    low: Mapped[float]
    high: Mapped[float]
    mean: Mapped[float]
    __table_args__ = {"sqlite_with_rowid": False}


class RolledUp(Base):
    """The step up to which a run's metrics are rolled up (exclusive); a run without a row has no roll-ups."""

    __tablename__ = "rolled_up"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)
    until: Mapped[Natural]
