"""Experiments: runs launched together for comparison. Each function is one transaction."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import delete, insert, select, update

from store.db.connection import Store, StoreError, reading, writing
from store.db.rows import ExperimentRow, RunRef
from store.db.schema import Experiment, ExperimentRun
from store.db.values import clean, storable
from store.jobs import new_uid


def create_experiment(store: Store, *, name: str, matrix: dict[str, Any]) -> RunRef:
    """Create an experiment without runs."""
    values = {"uid": new_uid(), "name": clean(name)[:200], "matrix": storable(matrix), "created_at": time.time()}
    with writing(store) as connection:
        new = insert(Experiment).values(values).returning(Experiment.id)
        return RunRef(connection.execute(new).scalar_one(), str(values["uid"]))


def add_to_experiment(store: Store, experiment_id: int, run_id: int, arm: str) -> None:
    with writing(store) as connection:
        connection.execute(insert(ExperimentRun).values(experiment_id=experiment_id, run_id=run_id, arm=clean(arm)))


def change_matrix(store: Store, experiment_id: int, matrix: dict[str, Any]) -> None:
    with writing(store) as connection:
        changed = update(Experiment).where(Experiment.id == experiment_id).values(matrix=storable(matrix))
        connection.execute(changed)


def delete_experiment(store: Store, experiment_id: int) -> None:
    """Delete an experiment, but not its runs."""
    with writing(store) as connection:
        connection.execute(delete(Experiment).where(Experiment.id == experiment_id))


def list_experiments(store: Store) -> list[ExperimentRow]:
    """Return all experiments, newest first, with their runs in the order in which they were added."""
    columns = (Experiment.id, Experiment.uid, Experiment.name, Experiment.matrix, Experiment.created_at)
    members = select(ExperimentRun.experiment_id, ExperimentRun.run_id, ExperimentRun.arm)
    with reading(store) as connection:
        arms: dict[int, dict[int, str]] = {}
        for experiment_id, run_id, arm in connection.execute(members.order_by(ExperimentRun.run_id)):
            arms.setdefault(experiment_id, {})[run_id] = arm
        rows = connection.execute(select(*columns).order_by(Experiment.created_at.desc(), Experiment.id.desc()))
        return [ExperimentRow._make((*row, arms.get(row.id, {}))) for row in rows]


def get_experiment(store: Store, name_or_uid: str) -> ExperimentRow:
    """Return the experiment with this uid, or the newest one of this name. Raises StoreError."""
    rows = list_experiments(store)
    matches = [row for row in rows if row.uid == name_or_uid] or [row for row in rows if row.name == name_or_uid]
    if not matches:
        names = ", ".join(dict.fromkeys(row.name for row in rows)) or "none"
        raise StoreError(f"Experiment {name_or_uid!r} does not exist in {store.where}. Known experiments: {names}.")
    return matches[0]
