"""Store and read measurements of the machines on which runs are, over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import Integer, cast, func, insert, select

from store.db.connection import Store, reading, writing
from store.db.schema import MachineSample
from store.db.values import clean, finite


class Readings(NamedTuple):
    """One kind of measurement: lowest, mean and highest value per interval; `at` is its middle (epoch seconds)."""

    at: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


def add_samples(store: Store, run_id: int, at: float, values: Mapping[str, float]) -> None:
    """Record measurements of one moment; values that are not finite are left out."""
    rows = [
        {"run_id": run_id, "what": clean(kind)[:40], "at": at, "value": value}
        for kind, value in values.items()
        if finite(value) is not None
    ]
    if rows:
        with writing(store) as connection:
            connection.execute(insert(MachineSample), rows)


def read_machine(store: Store, run_id: int, *, points: int = 400) -> dict[str, Readings]:
    """Return each kind of measurement over the whole run, in about `points` equal intervals at most."""
    of_run = MachineSample.run_id == run_id
    at, value = MachineSample.at, MachineSample.value
    with reading(store) as connection:
        first, last = connection.execute(select(func.min(at), func.max(at)).where(of_run)).one()
        if first is None:
            return {}
        width = max(1.0, (last - first) / points)
        stretch = cast((at - first) / width, Integer).label("stretch")
        columns = (MachineSample.what, func.min(at), func.max(at), func.min(value), func.avg(value), func.max(value))
        # By name, because PostgreSQL does not recognise that two expressions with parameters are equal.
        statement = select(*columns, stretch).where(of_run).group_by(MachineSample.what, "stretch")
        rows = connection.execute(statement.order_by(MachineSample.what, "stretch")).all()
    rows_by_kind: dict[str, list[tuple[Any, ...]]] = {}
    for kind, begin, end, *values, _ in rows:
        rows_by_kind.setdefault(kind, []).append(((begin + end) / 2, *values))
    return {kind: Readings(*np.array(each, np.float64).T) for kind, each in rows_by_kind.items()}
