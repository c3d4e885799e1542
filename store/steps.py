"""Store what a trainer records at each step, in one commit of about a millisecond. This is the hot path.

It uses the driver's cursor, because SQLAlchemy takes longer to pass on forty numbers than SQLite to store them. The SQL
is valid for SQLite and PostgreSQL; `?` stands for a parameter.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select, update

from store import rollups
from store.completions.summary import summarize
from store.completions.tokens import add_sampled
from store.db.connection import DriverCursor, Store, driver_cursor, driver_writing, writing
from store.db.rows import CompletionRow, TokenRow
from store.db.schema import Checkpoint, Completion, Evaluation, Metric, MetricName, Run, Step, StepSummary
from store.db.sql import upsert
from store.db.trace_columns import trace_columns
from store.db.values import clean, finite

ADD_STEP = 'INSERT INTO step (run_id, step, "at", tokens) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING'
CHANGE_STEP = 'UPDATE step SET "at" = ?, tokens = COALESCE(?, tokens) WHERE run_id = ? AND step = ?'
PUT_METRIC = (
    "INSERT INTO metric (run_id, name_id, step, value) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (run_id, name_id, step) DO UPDATE SET value = excluded.value"
)
DELETE_GENERATION = "DELETE FROM completion WHERE run_id = ? AND step = ? AND generation = ?"
PUT_SUMMARY = (
    "INSERT INTO step_summary (run_id, step, figures) VALUES (?, ?, ?) "
    "ON CONFLICT (run_id, step) DO UPDATE SET figures = excluded.figures"
)
COMPLETIONS_OF_STEP = (
    'SELECT generation, "group", "index", example_id, text, answer_start, answer_end, answer, wellformed, correct, '
    "reasoning_steps, tokens, truncated, reward, rewards FROM completion WHERE run_id = ? AND step = ?"
)
TRUE_COUNTS = "SELECT id, answer FROM example WHERE id IN ({places})"
ADD_COMPLETION = (
    'INSERT INTO completion (run_id, step, generation, "group", "index", example_id, advantage, text, think_start, '
    "think_end, answer_start, answer_end, answer, wellformed, correct, reasoning_steps, tokens, truncated, reward, "
    "rewards) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
ADVANCE_RUN = "UPDATE run SET step = ? WHERE id = ? AND step < ?"
BEAT_JOB = (
    "UPDATE job SET heartbeat = heartbeat + 1, spoke_at = ?, activity = 'training', done = NULL, total = NULL "
    "WHERE id = ? RETURNING stop_requested"
)
LONGEST_NAME = 200


def record_step(
    store: Store,
    run_id: int,
    step: int,
    metrics: Mapping[str, float | None],
    *,
    at: float | None,
    tokens: float | None = None,
    completions: Sequence[CompletionRow] = (),
    measured: Mapping[int, TokenRow] | None = None,
    job_id: int | None = None,
) -> int:
    """Store all data of one update in one commit; return the stop level requested of the job (0 for none).

    `tokens` counts from the beginning of the run; `measured` has per-token measurements by index in `completions`.
    Recording a step again replaces values of the same metrics and completions of the same generation, and keeps the
    rest. `at` is None if the time of the step is unknown, or if there was no update.
    """
    values = _metric_rows(store, run_id, step, metrics)
    texts = [_completion_row(run_id, step, completion) for completion in completions]
    with driver_writing(store) as cursor:
        is_new = at is not None and cursor.execute(ADD_STEP, (run_id, step, at, finite(tokens))).rowcount
        if at is not None and not is_new:
            cursor.execute(CHANGE_STEP, (at, finite(tokens), run_id, step))
        put_metrics(cursor, run_id, step, values)
        if completions and not is_new:
            for generation in {completion.generation for completion in completions}:
                cursor.execute(DELETE_GENERATION, (run_id, step, generation))
        cursor.executemany(ADD_COMPLETION, texts)
        add_sampled(cursor, run_id, step, completions, measured or {})
        if completions:
            every = completions if is_new else _step_completions(cursor, run_id, step)
            figures = summarize(every, _true_counts(cursor, every))
            cursor.execute(PUT_SUMMARY, (run_id, step, json.dumps(figures)))
        cursor.execute(ADVANCE_RUN, (step, run_id, step))
        return 0 if job_id is None else _beat(cursor, job_id)


def record_metrics(store: Store, run_id: int, step: int, metrics: Mapping[str, float | None]) -> None:
    """Add metrics to a step that needs no row of its own, such as those of evaluations or of the base at step 0."""
    values = _metric_rows(store, run_id, step, metrics)
    with driver_writing(store) as cursor:
        put_metrics(cursor, run_id, step, values)


def put_metrics(cursor: DriverCursor, run_id: int, step: int, values: list[tuple[Any, ...]]) -> None:
    if values:
        cursor.executemany(PUT_METRIC, values)
        rollups.keep_up(cursor, run_id, step)


def truncate_after(store: Store, run_id: int, step: int) -> None:
    """Delete everything after `step`, so that a run can continue from a checkpoint there; -1 deletes everything."""
    every_name = select(MetricName.id)
    with writing(store) as connection:
        later = delete(Metric).where(Metric.run_id == run_id, Metric.name_id.in_(every_name), Metric.step > step)
        connection.execute(later)
        rollups.cut(driver_cursor(connection), run_id, step + 1)
        for table in (Step, Completion, StepSummary, Evaluation, Checkpoint):
            connection.execute(delete(table).where(table.run_id == run_id, table.step > step))
        connection.execute(update(Run).where(Run.id == run_id, Run.step > step).values(step=max(step, 0)))


def forget_steps(store: Store, run_id: int, steps: Sequence[int]) -> None:
    """Delete everything recorded for these steps, including their evaluations and checkpoints."""
    every_name = select(MetricName.id)
    with writing(store) as connection:
        at_them = delete(Metric).where(Metric.run_id == run_id, Metric.name_id.in_(every_name), Metric.step.in_(steps))
        connection.execute(at_them)
        cursor = driver_cursor(connection)
        for step in steps:
            rollups.keep_up(cursor, run_id, step)
        for table in (Step, Completion, StepSummary, Evaluation, Checkpoint):
            connection.execute(delete(table).where(table.run_id == run_id, table.step.in_(steps)))
        last = select(func.coalesce(func.max(Metric.step), 0)).where(Metric.run_id == run_id)
        left = last.where(Metric.name_id.in_(every_name)).scalar_subquery()
        connection.execute(update(Run).where(Run.id == run_id).values(step=left))


def _beat(cursor: DriverCursor, job_id: int) -> int:
    row = cursor.execute(BEAT_JOB, (time.time(), job_id)).fetchone()
    return row[0] if row else 0


def _step_completions(cursor: DriverCursor, run_id: int, step: int) -> list[CompletionRow]:
    """Return a step's completions with the fields that summaries need."""
    completions = []
    for (
        *identity_columns,
        text,
        start,
        end,
        answer,
        wellformed,
        correct,
        reasoning_steps,
        tokens,
        truncated,
        reward,
        rewards,
    ) in cursor.execute(COMPLETIONS_OF_STEP, (run_id, step)).fetchall():
        generation, group, index, example_id = identity_columns
        completions.append(
            CompletionRow(
                text=text,
                answer_span=None if start is None else (start, end),
                answer=answer,
                wellformed=bool(wellformed),
                correct=None if correct is None else bool(correct),
                reasoning_steps=reasoning_steps,
                tokens=tokens,
                truncated=bool(truncated),
                reward=reward,
                rewards=json.loads(rewards) if isinstance(rewards, str) else rewards,
                generation=generation,
                group=group,
                index=index,
                example_id=example_id,
            )
        )
    return completions


def _true_counts(cursor: DriverCursor, completions: Sequence[CompletionRow]) -> dict[int, int | None]:
    """Return true counts by example id."""
    ids = tuple({row.example_id for row in completions if row.example_id is not None})
    if not ids:
        return {}
    return dict(cursor.execute(TRUE_COUNTS.format(places=", ".join("?" * len(ids))), ids).fetchall())


def _metric_rows(store: Store, run_id: int, step: int, metrics: Mapping[str, float | None]) -> list[tuple[Any, ...]]:
    ids = _metric_ids(store, metrics)
    return [(run_id, ids[name], step, finite(value)) for name, value in metrics.items()]


def _metric_ids(store: Store, names: Iterable[str]) -> dict[str, int]:
    """Return the ids of metric names; new names are committed at once, so that their ids can be cached."""
    ids_by_name = store.metric_ids
    missing = {name: _stored_name(name) for name in names if name not in ids_by_name}
    if missing:
        stored = set(missing.values())
        with writing(store) as connection:
            add = upsert(connection.dialect.name, MetricName).on_conflict_do_nothing()
            connection.execute(add, [{"name": name} for name in sorted(stored)])
            statement = select(MetricName.name, MetricName.id).where(MetricName.name.in_(stored))
            ids = {name: id for name, id in connection.execute(statement)}
        ids_by_name.update((name, ids[cleaned]) for name, cleaned in missing.items())
    return ids_by_name


def _stored_name(name: str) -> str:
    """Return a name as stored: very long ones are cut and end in a hash, so that they stay distinct."""
    name = clean(name)
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 9]}-{digest}"


def _completion_row(run_id: int, step: int, row: CompletionRow) -> tuple[Any, ...]:
    *trace, rewards = trace_columns(row).values()
    identity_columns = (row.generation, row.group, row.index, row.example_id, finite(row.advantage))
    return (run_id, step, *identity_columns, *trace, json.dumps(rewards))
