"""Runs: create, find, list, describe, tag and delete them."""

from __future__ import annotations

import difflib
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    RowMapping,
    ScalarSelect,
    Select,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from store import pace
from store.db import checking
from store.db.connection import Store, StoreError, reading, writing
from store.db.redaction import redacted_values
from store.db.rows import JobRow, RunDetail, RunRef, RunRow
from store.db.schema import Evaluation, Job, Run, Tag
from store.db.sql import upsert
from store.db.states import OPEN
from store.db.values import clean, storable
from store.jobs import (
    _jobs,
    new_uid,
)

_RUN: Any = Run.__table__
RUN_COLUMNS = (
    *("id", "uid", "name", "method", "style", "grammar", "model", "dataset", "lora_rank", "quantization", "seed"),
    *("step", "max_steps", "created_at", "parent_id"),
)


class Broken(StoreError):
    """Raised for a run with invalid rows."""

    def __init__(self, uid: object, fault: str) -> None:
        super().__init__(
            f"The run {uid} has invalid data ({fault}). Delete it on the Runs page, or with `store delete {uid}`."
        )


MAIN_JOB_FIRST = ((Job.kind == "train").desc(), (Job.kind != "embed").desc(), Job.id.desc())
"""A run has the state of its latest training; later evaluations and embeddings do not change it."""


MEASURED = ("test", "val", "probe")
"""Kinds of evaluations of an unmodified checkpoint, those with most examples first."""


BROKEN = "broken"
"""The state of a run whose rows are invalid."""


PARTS: dict[Any, dict[str, str]] = {
    Run.__table__: {name: name for name in RUN_COLUMNS},
    Job.__table__: {
        "status": "state",
        "job_id": "id",
        "job_uid": "uid",
        "job_kind": "kind",
        **{name: name for name in ("host", "activity", "spoke_at", "heartbeat", "started_at", "ended_at", "error")},
    },
    Evaluation.__table__: {"evaluation": "metrics", "evaluation_kind": "kind", "evaluation_step": "step"},
}
"""The tables from which the columns of `_rows` come, and their names there."""


def resolve_run(store: Store, name_or_uid: str) -> int:
    """Return the id of the run with this uid or unique name. Raises StoreError, which names close matches."""
    return find_run(store, name_or_uid).id


def find_run(store: Store, name_or_uid: str) -> RunRef:
    """Return the run with this uid or name, or with this id if its uid cannot be typed. Raises like `resolve_run`."""
    with reading(store) as connection:
        rows = connection.execute(select(Run.id, Run.uid, Run.name)).all()
    by_uid = [row for row in rows if str(row.uid) == name_or_uid]
    matches = by_uid or [row for row in rows if row.name == name_or_uid]
    if not matches:
        matches = [row for row in rows if str(row.id) == name_or_uid and any(checking.faults(_RUN, {"uid": row.uid}))]
    if len(matches) == 1:
        return RunRef(matches[0].id, str(matches[0].uid))
    if matches:
        uids = _list(str(row.uid) for row in matches)
        raise StoreError(f"{len(matches)} runs are named {name_or_uid!r}. Use a uid ({uids}).")
    known_words = {str(word) for row in rows for word in (row.name, row.uid)}
    close = difflib.get_close_matches(name_or_uid, known_words, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "list them with `python -m store runs`."
    raise StoreError(f"There is no run {name_or_uid!r} in {store.where}: {hint}")


def get_run(store: Store, run_id: int) -> RunDetail:
    """Return a run with the job that decides its status. Raises StoreError if it does not exist or is invalid."""
    by_id = get_runs(store, [run_id])
    if run_id not in by_id:
        raise StoreError("This run is no longer in the database.")
    return by_id[run_id]


def get_runs(store: Store, ids: Sequence[int]) -> dict[int, RunDetail]:
    """Return runs by id, like `get_run`; missing runs are left out. Raises Broken."""
    main = select(Job.id).where(Job.run_id == Run.id).order_by(*MAIN_JOB_FIRST).limit(1).correlate(Run)
    with reading(store) as connection:
        rows = connection.execute(select(Run.__table__).where(Run.id.in_(ids))).mappings().all()
        tags = _tags(connection, select(Run.id).where(Run.id.in_(ids)))
        main_jobs = select(main.scalar_subquery()).select_from(Run).where(Run.id.in_(ids))
        jobs = {job.run_id: job for job in connection.execute(_jobs().where(Job.id.in_(main_jobs)))}
    return {row["id"]: _detail(row, tags[row["id"]], jobs.get(row["id"])) for row in rows}


def _detail(row: RowMapping, tags: Sequence[str], main: Row[Any] | None) -> RunDetail:
    parts: list[tuple[Any, dict[str, Any]]] = [(_RUN, dict(row)), (Job.__table__, main._asdict() if main else {})]
    for table, part in parts:
        for name, fault in checking.faults(table, part):
            raise Broken(row["uid"], f"{name} of its {table.name} {fault}")
    return RunDetail(**row, tags=tuple(tags), job=JobRow._make(main) if main else None)


def list_run_heads(store: Store, *, newest: int | None = None, uids: Sequence[str] = ()) -> list[RunRow]:
    """Return runs, newest first, without evaluation, pace and sparkline: enough for pickers and filters.

    Return all, or the `newest` ones together with those with an open job and those with these `uids`.
    """
    chosen = select(Run.id)
    if newest is not None:
        first = select(Run.id).order_by(Run.created_at.desc(), Run.id.desc()).limit(newest)
        at_work = select(Job.run_id).where(Job.state.in_(OPEN))
        chosen = chosen.where(or_(Run.id.in_(first), Run.id.in_(at_work), Run.uid.in_(uids)))
    with reading(store) as connection:
        rows = [_readable(row) for row in connection.execute(_heads(chosen)).mappings()]
        tags = _tags(connection, chosen)
    return [RunRow(**row, tags=tuple(tags.get(row["id"], ()))) for row in rows]


def list_runs(
    store: Store,
    *,
    method: str | None = None,
    tag: str | None = None,
    ids: Sequence[int] | None = None,
    open_only: bool = False,
) -> list[RunRow]:
    """Return runs, newest first: all, or those with a method, a tag, these ids or an open job.

    The cost grows with their number; use `list_run_heads` for very many.
    """
    chosen = select(Run.id)
    if method is not None:
        chosen = chosen.where(Run.method == method)
    if tag is not None:
        chosen = chosen.join(Tag).where(Tag.name == tag)
    if ids is not None:
        chosen = chosen.where(Run.id.in_(ids))
    if open_only:
        chosen = chosen.where(Run.id.in_(select(Job.run_id).where(Job.state.in_(OPEN))))
    with reading(store) as connection:
        rows = [_readable(row) for row in connection.execute(_rows(chosen)).mappings()]
        tags = _tags(connection, chosen)
        speed = pace.pace(connection, chosen)
        sparklines = pace.sparklines(connection, chosen)
    return [
        RunRow(
            **row,
            tags=tuple(tags[row["id"]]),
            seconds_per_step=speed.get(row["id"], (None, None))[0],
            tokens_per_second=speed.get(row["id"], (None, None))[1],
            sparkline=tuple(sparklines[row["id"]]),
        )
        for row in rows
    ]


def list_configurations(
    store: Store, *, method: str, model: str, dataset: str, newest: int | None = None
) -> dict[int, dict[str, Any]]:
    """Return the configurations, by run id, of a method's runs on a base model and dataset, newest first."""
    same_setup = (Run.method == method, Run.model == model, Run.dataset == dataset)
    statement = select(Run.id, Run.config).where(*same_setup).order_by(Run.id.desc()).limit(newest)
    with reading(store) as connection:
        return {row.id: row.config for row in connection.execute(statement)}


def create_run(
    store: Store,
    *,
    name: str,
    method: str,
    style: str,
    grammar: str = "ours",
    model: str,
    dataset: str,
    config: dict[str, Any],
    reward_weights: dict[str, float],
    lora_rank: int | None = None,
    quantization: str | None = None,
    seed: int | None = None,
    max_steps: int | None = None,
    output_dir: str | None = None,
    parent_id: int | None = None,
    uid: str | None = None,
) -> RunRef:
    """Create a run at step 0 without jobs, with a new `uid` unless one is given."""
    uid = uid or new_uid()
    values = {
        "name": name,
        "method": method,
        "style": style,
        "grammar": grammar,
        "model": model,
        "dataset": dataset,
        "config": config,
        "reward_weights": reward_weights,
        "lora_rank": lora_rank,
        "quantization": quantization,
        "seed": seed,
        "max_steps": max_steps,
        "output_dir": output_dir,
        "parent_id": parent_id,
    }
    fixed = {"uid": uid, "environment": {}, "sources": {}, "step": 0, "created_at": time.time()}
    with writing(store) as connection:
        new = insert(Run).values(**fixed, **_stored_columns(values)).returning(Run.id)
        return RunRef(connection.execute(new).scalar_one(), uid)


def describe_run(store: Store, run_id: int, **columns: Any) -> None:
    """Set columns of a run, for example `environment`, `prompt`, `prompt_hash`, `sources`, `note`, `name`."""
    with writing(store) as connection:
        connection.execute(update(Run).where(Run.id == run_id).values(_stored_columns(columns)))


def delete_run(store: Store, run_id: int) -> None:
    """Delete a run and all its rows, but not its files. Raises StoreError if it has an open job."""
    is_open = select(Job.uid).where(Job.run_id == run_id, Job.state.in_(OPEN)).limit(1)
    with writing(store) as connection:
        job = connection.scalar(is_open)
        if job:
            raise StoreError(f"The run has an open job ({job}). Stop the job first.")
        connection.execute(delete(Run).where(Run.id == run_id))


def add_tag(store: Store, run_id: int, name: str) -> None:
    with writing(store) as connection:
        connection.execute(
            upsert(connection.dialect.name, Tag).values(run_id=run_id, name=clean(name)).on_conflict_do_nothing()
        )


def remove_tag(store: Store, run_id: int, name: str) -> None:
    with writing(store) as connection:
        connection.execute(delete(Tag).where(Tag.run_id == run_id, Tag.name == clean(name)))


def _list(words: Any) -> str:
    return ", ".join(sorted(words))


def _readable(row: RowMapping) -> dict[str, Any]:
    """Return a row of the runs table with `broken` set and empty values in place of invalid ones."""
    values, broken = dict(row), None
    for table, part in _parts(tuple(values)):
        if all(values[label] is None for label, _, _, _ in part):
            continue
        for label, name, nullable, check in part:
            value = values[label]
            fault = (None if nullable else "is missing") if value is None else check(value)
            if fault is not None:
                values[label] = checking.empty(table.c[name])
                broken = broken or f"{name} of its {table.name} {fault}"
    if broken is not None:
        values |= {"name": values["name"] or f"run {row['id']}", "uid": str(row["uid"]), "status": BROKEN}
    values["broken"] = broken
    return values


@lru_cache(maxsize=8)
def _parts(labels: tuple[str, ...]) -> list[tuple[Any, list[tuple[str, str, bool, checking.Check]]]]:
    """Return the source tables of labels, with each label's column, whether it may be NULL, and its check."""

    def part(table: Any, columns: dict[str, str]) -> list[tuple[str, str, bool, checking.Check]]:
        present = [(label, table.c[name]) for label, name in columns.items() if label in labels]
        return [(label, column.name, bool(column.nullable), checking.check_of(column)) for label, column in present]

    return [(table, part(table, columns)) for table, columns in PARTS.items()]


def _heads(chosen: Select[Any]) -> Select[Any]:
    main_job = (
        select(Job.id).where(Job.run_id == Run.id).order_by(*MAIN_JOB_FIRST).limit(1).correlate(Run).scalar_subquery()
    )
    return (
        select(
            *(Run.__table__.c[name] for name in RUN_COLUMNS),
            Job.state.label("status"),
            Job.id.label("job_id"),
            Job.uid.label("job_uid"),
            Job.kind.label("job_kind"),
            *(Job.host, Job.activity, Job.spoke_at, Job.heartbeat, Job.started_at, Job.ended_at, Job.error),
        )
        .select_from(Run)
        .where(Run.id.in_(chosen))
        .outerjoin(Job, Job.id == main_job)
        .order_by(Run.created_at.desc(), Run.id.desc())
    )


def _rows(chosen: Select[Any]) -> Select[Any]:
    latest_evaluation = func.coalesce(_latest_evaluation(Evaluation.benchmark == Run.dataset), _latest_evaluation())
    evaluated = (
        Evaluation.metrics.label("evaluation"),
        Evaluation.kind.label("evaluation_kind"),
        Evaluation.step.label("evaluation_step"),
    )
    return _heads(chosen).add_columns(*evaluated).outerjoin(Evaluation, Evaluation.id == latest_evaluation)


def _latest_evaluation(*which: ColumnElement[bool]) -> ScalarSelect[int]:
    """Select a run's newest finished evaluation; of several for one checkpoint, that with most examples."""
    finished = (Evaluation.run_id == Run.id, Evaluation.ended_at.is_not(None), Evaluation.kind.in_(MEASURED), *which)
    checkpoint = select(Evaluation.step).where(*finished).order_by(Evaluation.id.desc()).limit(1).correlate(Run)
    at_it = select(Evaluation.id).where(*finished, Evaluation.step == checkpoint.scalar_subquery())
    largest = case({kind: place for place, kind in enumerate(MEASURED)}, value=Evaluation.kind)
    return at_it.order_by(largest, Evaluation.id.desc()).limit(1).correlate(Run).scalar_subquery()


def _tags(connection: Connection, chosen: Select[Any]) -> dict[int, list[str]]:
    tags_by_run: dict[int, list[str]] = defaultdict(list)
    for run_id, name in connection.execute(
        select(Tag.run_id, Tag.name).where(Tag.run_id.in_(chosen)).order_by(Tag.name)
    ):
        tags_by_run[run_id].append(name)
    return tags_by_run


def _stored_columns(columns: dict[str, Any]) -> dict[str, Any]:
    """Return columns of a run for storing: cleaned, and without secrets."""
    return {key: redacted_values(storable(value)) for key, value in columns.items()}
