"""Everything that changes a run: the trainer's records and the dashboard's intents. One function, one transaction.

Steps are in `store.steps`, jobs and workers in `store.jobs`, examples and evaluations in `store.evaluations`,
indexed datasets in `store.indexes`, vectors in `store.embeddings`; all are importable from here.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import delete, insert, select, update

from store.connection import Store, StoreError, writing
from store.embeddings import add_embeddings, use_encoder
from store.evaluations import (
    add_examples,
    begin_evaluation,
    continue_evaluation,
    finish_evaluation,
    record_predictions,
    set_similarities,
)
from store.experiments import add_to_experiment, create_experiment
from store.indexes import add_image_hashes, advance_index, ask_index, begin_index, drop_index, fail_index, finish_index
from store.jobs import (
    add_job,
    advance_job,
    ask_stop,
    beat,
    beat_worker,
    claim_job,
    end_job,
    new_uid,
    note,
    place_job,
    remove_worker,
    shift_job,
    start_job,
    upsert_worker,
)
from store.notes import note_trace, tag_traces, untag_trace
from store.redaction import redacted_values
from store.rows import RunRef
from store.schema import OPEN, Checkpoint, Job, Run, Tag
from store.sql import upsert
from store.steps import forget_steps, record_metrics, record_step, truncate_after
from store.tokens import put_tokens
from store.values import clean, finite, storable

__all__ = [
    "add_embeddings",
    "add_event",
    "add_examples",
    "add_image_hashes",
    "add_job",
    "add_tag",
    "add_to_experiment",
    "advance_index",
    "advance_job",
    "ask_index",
    "ask_stop",
    "beat",
    "beat_worker",
    "begin_evaluation",
    "begin_index",
    "claim_job",
    "continue_evaluation",
    "create_experiment",
    "create_run",
    "delete_run",
    "describe_run",
    "drop_index",
    "end_job",
    "fail_index",
    "finish_evaluation",
    "finish_index",
    "forget_steps",
    "move_checkpoints",
    "note_trace",
    "place_job",
    "put_tokens",
    "record_metrics",
    "record_predictions",
    "record_step",
    "remove_tag",
    "remove_worker",
    "set_checkpoint",
    "set_similarities",
    "shift_job",
    "start_job",
    "tag_traces",
    "truncate_after",
    "untag_trace",
    "upsert_worker",
    "use_encoder",
]


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
    """A new run at step 0, without a job; with a new `uid` unless it has one from elsewhere."""
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
        new = insert(Run).values(**fixed, **_kept(values)).returning(Run.id)
        return RunRef(connection.execute(new).scalar_one(), uid)


def describe_run(store: Store, run_id: int, **columns: Any) -> None:
    """Sets columns of a run, for example `environment`, `prompt`, `prompt_hash`, `sources`, `note`, `name`."""
    with writing(store) as connection:
        connection.execute(update(Run).where(Run.id == run_id).values(_kept(columns)))


def _kept(columns: dict[str, Any]) -> dict[str, Any]:
    """Columns of a run as they may be kept: storable, and without secrets."""
    return {key: redacted_values(storable(value)) for key, value in columns.items()}


def delete_run(store: Store, run_id: int) -> None:
    """Removes a run and all its rows; StoreError while one of its jobs is open. Files are the caller's."""
    is_open = select(Job.uid).where(Job.run_id == run_id, Job.state.in_(OPEN)).limit(1)
    with writing(store) as connection:
        job = connection.scalar(is_open)
        if job:
            raise StoreError(f"The run has an open job ({job}): stop it first.")
        connection.execute(delete(Run).where(Run.id == run_id))


def add_tag(store: Store, run_id: int, name: str) -> None:
    with writing(store) as connection:
        connection.execute(
            upsert(connection.dialect.name, Tag).values(run_id=run_id, name=clean(name)).on_conflict_do_nothing()
        )


def remove_tag(store: Store, run_id: int, name: str) -> None:
    with writing(store) as connection:
        connection.execute(delete(Tag).where(Tag.run_id == run_id, Tag.name == clean(name)))


def add_event(
    store: Store, run_id: int, kind: str, message: str, *, job_id: int | None = None, step: int | None = None
) -> None:
    with writing(store) as connection:
        note(connection, run_id, kind, message, job_id=job_id, step=step)


def set_checkpoint(
    store: Store,
    run_id: int,
    *,
    kind: str,
    step: int,
    path: str,
    value: float | None = None,
    is_best: bool = False,
) -> None:
    """Says where the `last`, `best` or `final` weights lie now; `value` is the accuracy that chose them.

    `is_best` makes them the `best` ones, too, at once: no process that dies between two writes can lose that.
    """
    row = {"step": step, "path": clean(path), "value": finite(value), "created_at": time.time()}
    accuracy = "" if row["value"] is None else f" (accuracy {row['value']:.3f})"
    with writing(store) as connection:
        for each in (kind, "best") if is_best else (kind,):
            statement = upsert(connection.dialect.name, Checkpoint).values(run_id=run_id, kind=each, **row)
            connection.execute(statement.on_conflict_do_update(index_elements=["run_id", "kind"], set_=row))
            message = f"{each.capitalize()} checkpoint saved at step {step}{accuracy}."
            note(connection, run_id, "best" if each == "best" else "checkpoint", message, step=step)


def move_checkpoints(store: Store, run_id: int, places: dict[str, str]) -> None:
    """Says where the weights lie that lay elsewhere before: old path to new."""
    with writing(store) as connection:
        for old, new in places.items():
            where = (Checkpoint.run_id == run_id, Checkpoint.path == old)
            connection.execute(update(Checkpoint).where(*where).values(path=clean(new)))
