"""Read runs, metrics, completions and predictions as pandas data frames, for notebooks and `store metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any

import pandas as pd
from sqlalchemy import select

from store.care.export import completion_fields, prediction_fields
from store.completions.rows import iter_completions
from store.db.connection import Store, StoreError, reading
from store.db.engine import open_store
from store.db.rows import RunDetail
from store.db.schema import Metric, MetricName
from store.db.values import flat
from store.evaluations.predictions import iter_predictions
from store.experiments import get_experiment, list_experiments
from store.runs import get_run, get_runs, list_run_heads, list_runs, resolve_run

EXPERIMENT, TAG = "experiment:", "tag:"
ARM, METHOD = "arm", "method"
NAMED = {"run": "uid", "name": "name"}
"""First columns of the metrics, and the attribute of a run that each holds."""


class Frames:
    """An open database. Methods take runs by uid, unique name, `tag:NAME` or `experiment:NAME`; None means all runs."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __enter__(self) -> Frames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.store.close()

    def runs(self) -> pd.DataFrame:
        """Return one row per run, newest first, with its settings as columns `config.…`."""
        rows = list_runs(self.store)
        details = get_runs(self.store, [row.id for row in rows if row.broken is None])
        settings = {id: flat(run.config, "config.") for id, run in details.items()}
        notes = {id: {"note": run.note} for id, run in details.items()}
        return pd.DataFrame([asdict(row) | notes.get(row.id, {}) | settings.get(row.id, {}) for row in rows])

    def metrics(
        self, runs: str | Iterable[str] | None = None, names: Sequence[str] | None = None, group_by: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Return one row per value: `run`, `name`, the columns in `group_by`, `metric`, `step`, `value`.

        `group_by` accepts fields of the configuration (`lora.rank`), `arm` and `method`. Raises StoreError.
        """
        details = get_runs(self.store, self._ids(runs))
        values = (
            select(Metric.run_id, MetricName.name.label("metric"), Metric.step, Metric.value)
            .join(MetricName, MetricName.id == Metric.name_id)
            .where(Metric.run_id.in_(list(details)), Metric.value.is_not(None))
            .order_by(Metric.run_id, MetricName.name, Metric.step)
        )
        if names is not None:
            values = values.where(MetricName.name.in_(names))
        with reading(self.store) as connection:
            frame = pd.DataFrame(connection.execute(values).all(), columns=["run_id", "metric", "step", "value"])
        columns = {
            "run": {id: run.uid for id, run in details.items()},
            "name": {id: r.name for id, r in details.items()},
        }
        columns |= {field: self._group(field, details) for field in group_by}
        for place, (column, by_run) in enumerate(columns.items()):
            frame.insert(place, column, frame["run_id"].map(by_run))
        return frame.drop(columns="run_id")

    def completions(self, run: str) -> pd.DataFrame:
        """Return one row per completion that was sampled during training."""
        detail = get_run(self.store, resolve_run(self.store, run))
        return pd.DataFrame([completion_fields(detail.uid, row) for row in iter_completions(self.store, detail.id)])

    def predictions(self, run: str) -> pd.DataFrame:
        """Return one row per answer in the run's evaluations."""
        detail = get_run(self.store, resolve_run(self.store, run))
        return pd.DataFrame([prediction_fields(detail.uid, row) for row in iter_predictions(self.store, detail.id)])

    def _ids(self, runs: str | Iterable[str] | None) -> list[int]:
        if runs is None:
            return sorted(row.id for row in list_run_heads(self.store) if row.broken is None)
        each = [runs] if isinstance(runs, str) else runs
        return list(dict.fromkeys(id for text in each for id in self._named(text)))

    def _named(self, text: str) -> list[int]:
        if text.startswith(TAG):
            run_ids = [row.id for row in list_runs(self.store, tag=text.removeprefix(TAG))]
            if not run_ids:
                raise StoreError(f"No run has the tag {text.removeprefix(TAG)!r}.")
            return sorted(run_ids)
        if text.startswith(EXPERIMENT):
            return sorted(get_experiment(self.store, text.removeprefix(EXPERIMENT)).arms)
        return [resolve_run(self.store, text)]

    def _group(self, field: str, details: Mapping[int, RunDetail]) -> dict[int, Any]:
        if field == METHOD:
            return {id: run.method for id, run in details.items()}
        if field == ARM:
            return {id: arm for experiment in list_experiments(self.store) for id, arm in experiment.arms.items()}
        values = {id: flat(run.config).get(field) for id, run in details.items()}
        if all(value is None for value in values.values()):
            raise StoreError(
                f"None of these runs has a setting {field!r}. Name a field such as `lora.rank`, or arm or method."
            )
        return values


def open_frames(place: str | None = None) -> Frames:
    """Open a database (URL or path) for reading; the default is that of all commands. Raises StoreError."""
    return Frames(open_store(place, readonly=True))
