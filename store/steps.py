"""The hot path: what a trainer records each step, in one commit of about a millisecond.

Statements are built once: building them anew would take longer than running them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Executable, bindparam, delete, insert, select, update

from store.connection import Store, writing
from store.evaluations import trace_columns
from store.rows import CompletionRow
from store.schema import Completion, Evaluation, Job, Metric, MetricName, Run, Step
from store.sql import upsert
from store.values import clean, finite


class Statements(NamedTuple):
    """Parameters are named by column; those of a WHERE begin with `this_`."""

    add_name: Executable
    add_step: Executable
    put_metric: Executable
    add_completion: Executable
    advance_run: Executable
    beat_job: Executable


@cache
def statements(dialect: str) -> Statements:
    metric = upsert(dialect, Metric)
    keys, value = ["run_id", "name_id", "step"], {"value": metric.excluded.value}
    later = (Run.id == bindparam("this_run"), Run.step < bindparam("this_step"))
    beat = {"heartbeat": Job.heartbeat + 1, "spoke_at": bindparam("now"), "activity": "training"}
    return Statements(
        add_name=upsert(dialect, MetricName).on_conflict_do_nothing(),
        add_step=upsert(dialect, Step).on_conflict_do_nothing(),
        put_metric=metric.on_conflict_do_update(index_elements=keys, set_=value),
        add_completion=insert(Completion),
        advance_run=update(Run).where(*later).values(step=bindparam("this_step")),
        beat_job=update(Job).where(Job.id == bindparam("this_job")).values(beat).returning(Job.stop_requested),
    )


def record_step(
    store: Store,
    run_id: int,
    step: int,
    metrics: Mapping[str, float | None],
    *,
    at: float,
    tokens: float | None = None,
    completions: Sequence[CompletionRow] = (),
    job_id: int | None = None,
) -> int:
    """All that one update brought, in one commit; returns the stop level asked of the job (0 none, or no job).

    `tokens` counts from the run's beginning. A step that is recorded again replaces its metrics and completions.
    """
    sql = statements(store.engine.dialect.name)
    values = _metric_rows(store, run_id, step, metrics)
    with writing(store) as connection:
        row: dict[str, Any] = {"run_id": run_id, "step": step, "at": at, "tokens": finite(tokens)}
        if connection.execute(sql.add_step, row).rowcount == 0:
            _replace_step(connection, **row)
        if values:
            connection.execute(sql.put_metric, values)
        if completions:
            connection.execute(sql.add_completion, [_completion(run_id, step, each) for each in completions])
        connection.execute(sql.advance_run, {"this_run": run_id, "this_step": step})
        if job_id is None:
            return 0
        return connection.scalar(sql.beat_job, {"this_job": job_id, "now": time.time()}) or 0


def record_metrics(store: Store, run_id: int, step: int, metrics: Mapping[str, float | None]) -> None:
    """Adds metrics to a step that need not have a row of its own: evaluations, the base at step 0."""
    values = _metric_rows(store, run_id, step, metrics)
    if values:
        with writing(store) as connection:
            connection.execute(statements(store.engine.dialect.name).put_metric, values)


def truncate_after(store: Store, run_id: int, step: int) -> None:
    """Forgets what came after `step`, so that a run can go on from its checkpoint of that step."""
    with writing(store) as connection:
        connection.execute(delete(Metric).where(*_metrics_of(run_id), Metric.step > step))
        for table in (Step, Completion, Evaluation):
            connection.execute(delete(table).where(table.run_id == run_id, table.step > step))
        connection.execute(update(Run).where(Run.id == run_id, Run.step > step).values(step=step))


def _replace_step(connection: Connection, run_id: int, step: int, at: float, tokens: float | None) -> None:
    connection.execute(delete(Metric).where(*_metrics_of(run_id), Metric.step == step))
    connection.execute(delete(Completion).where(Completion.run_id == run_id, Completion.step == step))
    connection.execute(update(Step).where(Step.run_id == run_id, Step.step == step).values(at=at, tokens=tokens))


def _metrics_of(run_id: int) -> tuple[Any, ...]:
    """A condition that names every metric, so that the key (run, name, step) serves a condition on the step too."""
    return Metric.run_id == run_id, Metric.name_id.in_(select(MetricName.id))


def _metric_rows(
    store: Store, run_id: int, step: int, metrics: Mapping[str, float | None]
) -> list[dict[str, int | float | None]]:
    ids = _metric_ids(store, metrics)
    return [
        {"run_id": run_id, "name_id": ids[name], "step": step, "value": finite(value)}
        for name, value in metrics.items()
    ]


def _metric_ids(store: Store, names: Iterable[str]) -> dict[str, int]:
    """Ids of metric names; new names are committed at once, so that their ids can be kept."""
    known = store.metric_ids
    missing = {name: clean(name) for name in names if name not in known}
    if missing:
        stored = set(missing.values())
        with writing(store) as connection:
            add_name = statements(store.engine.dialect.name).add_name
            connection.execute(add_name, [{"name": name} for name in sorted(stored)])
            named = select(MetricName.name, MetricName.id).where(MetricName.name.in_(stored))
            ids = {name: id for name, id in connection.execute(named)}
        known.update((name, ids[cleaned]) for name, cleaned in missing.items())
    return known


def _completion(run_id: int, step: int, row: CompletionRow) -> dict[str, Any]:
    return {
        **trace_columns(row),
        "run_id": run_id,
        "step": step,
        "generation": row.generation,
        "group": row.group,
        "index": row.index,
        "example_id": row.example_id,
        "advantage": finite(row.advantage),
    }
