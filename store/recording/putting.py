"""Store single records. Storing one again does no harm."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select

from store.completions.rows import list_groups
from store.db.connection import Refused, Store, reading
from store.db.schema import Example as ExampleTable
from store.db.schema import Job, Run
from store.db.states import OPEN, JobState
from store.evaluations.records import record_evaluation
from store.examples import add_examples
from store.jobs import add_job, correct_end, end_job, start_job
from store.media import files as media
from store.recording import rows
from store.recording.records import (
    RECORDED,
    Begin,
    Describe,
    End,
    EvaluationRecord,
    EventRecord,
    ExampleRecord,
    Process,
    Record,
    RecordedAnswer,
    Sampled,
    StepRecord,
)
from store.recording.rows import Known
from store.runs import add_tag, create_run, describe_run
from store.steps import record_metrics, record_step, truncate_after
from store.trace import Form, form_of

KEYS_PER_QUERY = 500


class Place(NamedTuple):
    """The run and job to which a journal's records belong."""

    run_id: int
    job_id: int | None


def begin(store: Store, record: Begin, place: Place | None) -> Place:
    """Create or find the run of a training, and the job of its process. Raises StoreError."""
    run_id = place.run_id if place is not None and record.step else _known_run(store, record)
    columns = record.run.model_dump(exclude={"tags", "note"})
    max_steps = columns["max_steps"] if (columns["max_steps"] or 0) > 0 else None
    if run_id is None:
        values = columns | {"dataset": RECORDED, "style": "cot", "config": {"recorded": columns["config"]}}
        run_id = create_run(store, uid=record.uid, **values | {"max_steps": max_steps}).id
        describe_run(store, run_id, created_at=record.at, environment=record.environment, note=record.run.note)
        for tag in record.run.tags:
            add_tag(store, run_id, tag)
    else:
        if record.step:
            _close_others(store, run_id, record.process)
            truncate_after(store, run_id, record.step)
        if max_steps is not None:
            describe_run(store, run_id, max_steps=max_steps)
    job_id = _open_job(store, run_id, record.process)
    if job_id is None:
        arguments = {"recorded": True, "journal": record.folder} if record.folder else {"recorded": True}
        job_id = add_job(store, run_id, "train", arguments, state=JobState.STARTING, at=record.at).id
    with reading(store) as connection:
        started_at = connection.scalar(select(Job.started_at).where(Job.id == job_id))
    if started_at is None:
        process = record.process
        start_job(
            store,
            job_id,
            host=_host_of(process),
            boot_id=process.boot_id,
            pid=process.pid,
            pid_started=process.started,
            log_path=None,
            at=record.at,
        )
    return Place(run_id, job_id)


def put(store: Store, place: Place, record: Record) -> str | None:
    """Store a record; return the uid of the job that it ended, if any. Raises StoreError."""
    if isinstance(record, ExampleRecord):
        images = [media.content(store.media, name) for name in record.images]
        add_examples(store, [rows.example_row(record, images)])
    elif isinstance(record, StepRecord):
        _put_step(store, place, record)
    elif isinstance(record, EvaluationRecord):
        _put_evaluation(store, place, record)
    elif isinstance(record, Describe):
        _describe(store, place, record)
    elif isinstance(record, End):
        return _end(store, place, record)
    elif isinstance(record, Begin | EventRecord):
        raise TypeError("Begin and event records are stored elsewhere.")
    return None


def _put_step(store: Store, place: Place, record: StepRecord) -> None:
    form, weights = _reading_of(store, place.run_id)
    completions = rows.completion_rows(record.completions, form, weights, known_examples(store, record.completions))
    metrics = rows.store_names(record.metrics)
    if not record.means:
        metrics |= rows.figures(completions, form)
    record_step(
        store,
        place.run_id,
        record.step,
        metrics,
        at=record.at,
        tokens=metrics.get("tokens"),
        completions=completions,
        measured=record.measured,
        job_id=place.job_id,
    )


def put_means(store: Store, place: Place, step: int) -> None:
    """Compute the means of a step that arrived in parts."""
    form, _ = _reading_of(store, place.run_id)
    whole = [row for group in list_groups(store, place.run_id, step) for row in group.completions]
    record_metrics(store, place.run_id, step, rows.means(whole) | rows.figures(whole, form))


def _put_evaluation(store: Store, place: Place, record: EvaluationRecord) -> None:
    form, weights = _reading_of(store, place.run_id)
    examples = known_examples(store, record.rows)
    decoding = "as the script chose" if record.greedy else "sampled by the trainer"
    benchmark = record.name or RECORDED
    right = record_evaluation(
        store,
        place.run_id,
        rows.prediction_rows(record.rows, form, weights, examples),
        benchmark=benchmark,
        split="eval",
        step=record.step,
        conditions={"recorded": True, "decoding": decoding},
        is_first=record.first == 0,
        is_last=record.first + len(record.rows) >= record.total,
    )
    if right is not None:
        record_metrics(store, place.run_id, record.step, {rows.accuracy_name(benchmark): right})


def _describe(store: Store, place: Place, record: Describe) -> None:
    columns = {name: value for name, value in record.columns.model_dump().items() if value is not None}
    if "config" in columns:
        columns["config"] = {"recorded": columns["config"]}
    if record.environment:
        with reading(store) as connection:
            environment = connection.scalar(select(Run.environment).where(Run.id == place.run_id)) or {}
        columns["environment"] = environment | record.environment
    if columns:
        describe_run(store, place.run_id, **columns)


def _end(store: Store, place: Place, record: End) -> str | None:
    """Close the job. The script's own report of its end replaces one that was inferred from its silence."""
    if place.job_id is None:
        return None
    state = JobState(record.state)
    code = 1 if state == JobState.FAILED else 0
    if not end_job(store, place.job_id, state, exit_code=code, error=record.error, at=record.at):
        correct_end(store, place.job_id, state, exit_code=code, error=record.error, at=record.at)
    with reading(store) as connection:
        return connection.scalar(select(Job.uid).where(Job.id == place.job_id))


def known_examples(store: Store, answers: Sequence[Sampled | RecordedAnswer]) -> dict[str | int, Known]:
    """Return the examples to which records refer, by key."""
    keys = sorted({each.example for each in answers if each.example is not None})
    by_key: dict[str | int, Known] = {}
    columns = (ExampleTable.key, ExampleTable.id, ExampleTable.answer)
    recorded_examples = (ExampleTable.dataset == RECORDED, ExampleTable.split == "train")
    with reading(store) as connection:
        for start in range(0, len(keys), KEYS_PER_QUERY):
            part = keys[start : start + KEYS_PER_QUERY]
            for key, id, truth in connection.execute(
                select(*columns).where(*recorded_examples, ExampleTable.key.in_(part))
            ):
                by_key[key] = Known(id, truth)
    return by_key


def _reading_of(store: Store, run_id: int) -> tuple[Form, dict[str, float]]:
    """Return how a run's texts are parsed, and the weights of its rewards. Raises Refused if the run does not exist."""
    columns = (Run.style, Run.grammar, Run.reward_weights)
    with reading(store) as connection:
        row = connection.execute(select(*columns).where(Run.id == run_id)).first()
    if row is None:
        raise Refused("The run no longer exists.")
    return form_of(row.style, row.grammar), row.reward_weights


def _host_of(process: Process) -> str:
    """Return the host of a process. Another container on this machine counts as another host, as it hides them."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return process.host
    is_elsewhere = process.host == socket.gethostname() and process.namespace not in (None, namespace)
    return f"{process.host[:150]} (another container)" if is_elsewhere else process.host


def _known_run(store: Store, record: Begin) -> int | None:
    """Return the run with this uid; if training continues in a new process, that of the checkpoint."""
    uid = select(Run.id).where(Run.uid == record.uid)
    same = (
        Run.dataset == RECORDED,
        Run.name == record.run.name,
        Run.output_dir == record.run.output_dir,
        Run.output_dir.is_not(None),
    )
    earlier = select(Run.id).where(*same, Run.step >= record.step).order_by(Run.id.desc()).limit(1)
    with reading(store) as connection:
        run_id = connection.scalar(uid)
        return connection.scalar(earlier) if run_id is None and record.step else run_id


def _close_others(store: Store, run_id: int, process: Process) -> None:
    """Close the jobs of earlier processes that this one continues; how they ended is unknown."""
    others = (Job.run_id == run_id, Job.state.in_(OPEN), Job.pid.is_distinct_from(process.pid))
    with reading(store) as connection:
        ids = list(connection.scalars(select(Job.id).where(*others)))
    for id in ids:
        end_job(store, id, JobState.LOST, error="Training continued in another process.")


def _open_job(store: Store, run_id: int, process: Process) -> int | None:
    """Return the open job of this process, if the record was stored before."""
    of_process = (Job.run_id == run_id, Job.state.in_(OPEN), (Job.pid == process.pid) | Job.pid.is_(None))
    with reading(store) as connection:
        return connection.scalar(select(Job.id).where(*of_process).order_by(Job.id.desc()).limit(1))
