"""Writes of examples with their images, and of evaluations with their predictions. One function, one transaction."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, tuple_, update

from store import media
from store.connection import Store, reading, writing
from store.jobs import note
from store.rows import ExampleRow, PredictionRow, TraceFields
from store.schema import Evaluation, Example, ExampleImage, Media, Prediction
from store.sql import upsert
from store.values import clean, finite, storable

Identity = tuple[str, str, str]
KEYS_PER_QUERY = 500


def add_examples(store: Store, rows: Sequence[ExampleRow]) -> list[int]:
    """Ids of examples, in order; those that are not stored yet are added with their images.

    An example that is stored (same dataset, split and key) stays as it is.
    """
    identities = [_identity(row) for row in rows]
    with reading(store) as connection:
        known = _example_ids(connection, identities)
    missing = {key: row for key, row in zip(identities, rows, strict=True) if key not in known}
    if missing:
        images = {key: [media.save(store.media, data) for data in row.images] for key, row in missing.items()}
        with writing(store) as connection:
            known |= _insert_examples(connection, missing, images)
    return [known[key] for key in identities]


def begin_evaluation(
    store: Store,
    run_id: int,
    *,
    benchmark: str,
    split: str,
    kind: str,
    step: int,
    conditions: dict[str, Any],
    encoder: str | None,
    total: int,
) -> int:
    """Opens an evaluation of `total` predictions and returns its id, in place of one like it that never ended."""
    question = _question(run_id, benchmark, split, kind, step, conditions)
    with writing(store) as connection:
        connection.execute(delete(Evaluation).where(*_unfinished(question)))
        return _open(connection, question, conditions, encoder, total)


def continue_evaluation(
    store: Store,
    run_id: int,
    *,
    benchmark: str,
    split: str,
    kind: str,
    step: int,
    conditions: dict[str, Any],
    encoder: str | None,
    total: int,
    example_ids: Sequence[int],
) -> tuple[int, set[tuple[int, int]]]:
    """As `begin_evaluation`, but one like it that never ended goes on: its id, and (example id, sample) of what it has.

    One that has an example which is not among `example_ids`, or another encoder or length, is replaced.
    """
    question = _question(run_id, benchmark, split, kind, step, conditions)
    same = (*_unfinished(question), Evaluation.encoder.is_not_distinct_from(encoder), Evaluation.total == total)
    with writing(store) as connection:
        found = connection.scalar(select(Evaluation.id).where(*same).order_by(Evaluation.id.desc()).limit(1))
        known = _known(connection, found) if found is not None else set()
        if found is not None and {example for example, _ in known} <= set(example_ids):
            return found, known
        connection.execute(delete(Evaluation).where(*_unfinished(question)))
        return _open(connection, question, conditions, encoder, total), set()


def _question(
    run_id: int, benchmark: str, split: str, kind: str, step: int, conditions: dict[str, Any]
) -> dict[str, Any]:
    question = {"run_id": run_id, "benchmark": benchmark, "split": split, "kind": kind, "step": step}
    return question | {"conditions_hash": _hash(storable(conditions))}


def _unfinished(question: Mapping[str, Any]) -> list[Any]:
    return [*(Evaluation.__table__.c[name] == value for name, value in question.items()), Evaluation.ended_at.is_(None)]


def _open(
    connection: Connection, question: Mapping[str, Any], conditions: dict[str, Any], encoder: str | None, total: int
) -> int:
    rest = {"conditions": storable(conditions), "encoder": encoder, "total": total, "done": 0, "metrics": {}}
    opened = insert(Evaluation).values(**question, **rest, started_at=time.time()).returning(Evaluation.id)
    return int(connection.execute(opened).scalar_one())


def _known(connection: Connection, evaluation_id: int) -> set[tuple[int, int]]:
    stored = select(Prediction.example_id, Prediction.sample).where(Prediction.evaluation_id == evaluation_id)
    return {(row.example_id, row.sample) for row in connection.execute(stored)}


def record_predictions(store: Store, evaluation_id: int, rows: Sequence[PredictionRow]) -> None:
    """Adds predictions to an open evaluation and advances its `done`."""
    if not rows:
        return
    advance = update(Evaluation).where(Evaluation.id == evaluation_id).values(done=Evaluation.done + len(rows))
    with writing(store) as connection:
        connection.execute(insert(Prediction), [_prediction(evaluation_id, row) for row in rows])
        connection.execute(advance)


def finish_evaluation(store: Store, evaluation_id: int, metrics: dict[str, Any]) -> None:
    """Closes an evaluation with its figures (`n`, `exact_match`, …); a `val` or `test` is an event of the run."""
    values = {"metrics": storable(metrics), "ended_at": time.time()}
    close = update(Evaluation).where(Evaluation.id == evaluation_id).values(values)
    with writing(store) as connection:
        row = connection.execute(
            close.returning(Evaluation.run_id, Evaluation.benchmark, Evaluation.kind, Evaluation.step)
        ).one()
        if row.kind != "probe":
            score, n = metrics.get("exact_match"), metrics.get("n")
            result = "" if score is None else f": {score:.1%} right" + (f" of {n}" if n else "")
            note(connection, row.run_id, "evaluation", f"{row.kind} on {row.benchmark}{result}.", step=row.step)


def set_similarities(store: Store, similarities: Mapping[int, float | None]) -> None:
    """Sets the similarity of predictions, by prediction id."""
    if not similarities:
        return
    rows = [{"this_id": key, "cosine": finite(value)} for key, value in similarities.items()]
    statement = update(Prediction).where(Prediction.id == bindparam("this_id")).values(similarity=bindparam("cosine"))
    with writing(store) as connection:
        connection.execute(statement, rows)


def trace_columns(row: TraceFields) -> dict[str, Any]:
    """The columns that completions and predictions share."""
    think, answer = row.think or (None, None), row.answer_span or (None, None)
    return {
        "text": clean(row.text),
        "think_start": think[0],
        "think_end": think[1],
        "answer_start": answer[0],
        "answer_end": answer[1],
        "answer": row.answer,
        "wellformed": row.wellformed,
        "correct": row.correct,
        "steps": row.steps,
        "tokens": row.tokens,
        "truncated": row.truncated,
        "reward": finite(row.reward),
        "rewards": {clean(name): finite(value) for name, value in row.rewards.items()},
    }


def _prediction(evaluation_id: int, row: PredictionRow) -> dict[str, Any]:
    return {
        **trace_columns(row),
        "evaluation_id": evaluation_id,
        "example_id": row.example_id,
        "sample": row.sample,
        "similarity": finite(row.similarity),
        "seconds": finite(row.seconds),
    }


def _identity(row: ExampleRow) -> Identity:
    return clean(row.dataset), clean(row.split), clean(row.key)


def _example_ids(connection: Connection, identities: Sequence[Identity]) -> dict[Identity, int]:
    key = (Example.dataset, Example.split, Example.key)
    found: dict[Identity, int] = {}
    for start in range(0, len(identities), KEYS_PER_QUERY):
        part = identities[start : start + KEYS_PER_QUERY]
        for dataset, split, name, id in connection.execute(select(*key, Example.id).where(tuple_(*key).in_(part))):
            found[dataset, split, name] = id
    return found


def _insert_examples(
    connection: Connection, rows: Mapping[Identity, ExampleRow], images: Mapping[Identity, list[Any]]
) -> dict[Identity, int]:
    """Another process may be adding the same examples: whoever is second leaves them as they are."""
    files = [image._asdict() for each in images.values() for image in each]
    if files:
        connection.execute(upsert(connection.dialect.name, Media).on_conflict_do_nothing(), files)
    examples = [
        {
            **dict(zip(("dataset", "split", "key"), identity, strict=True)),
            "question": clean(row.question),
            "answer": row.answer,
            "reference": storable(row.reference),
            "difficulty": storable(row.difficulty),
            "meta": storable(row.meta),
            "gold": storable(row.gold),
            "prompt": storable(row.prompt),
            "columns": storable(row.columns),
        }
        for identity, row in rows.items()
    ]
    connection.execute(upsert(connection.dialect.name, Example).on_conflict_do_nothing(), examples)
    ids = _example_ids(connection, list(rows))
    links = [
        {"example_id": ids[identity], "position": position, "sha256": image.sha256}
        for identity, each in images.items()
        for position, image in enumerate(each)
    ]
    if links:
        connection.execute(upsert(connection.dialect.name, ExampleImage).on_conflict_do_nothing(), links)
    return ids


def _hash(conditions: Any) -> str:
    return hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:16]
