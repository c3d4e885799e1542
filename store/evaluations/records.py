"""Open, continue, fill and close evaluations. Each function is one transaction."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    delete,
    func,
    insert,
    select,
    update,
)

from store.db.connection import Store, reading, writing
from store.db.rows import (
    EvaluationRow,
    PredictionRow,
)
from store.db.schema import (
    Evaluation,
    Prediction,
)
from store.db.sql import columns, sound_row
from store.db.trace_columns import trace_columns
from store.db.values import finite, storable
from store.events import insert_event


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
    """Open an evaluation of `total` predictions and return its id; an unfinished one of the same kind is replaced."""
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
    """Continue an unfinished evaluation of the same kind, or else open one. Return its id and its (example id, sample).

    An unfinished one with examples that are not in `example_ids`, or with another encoder or length, is replaced.
    """
    question = _question(run_id, benchmark, split, kind, step, conditions)
    same = (*_unfinished(question), Evaluation.encoder.is_not_distinct_from(encoder), Evaluation.total == total)
    with writing(store) as connection:
        open_id = connection.scalar(select(Evaluation.id).where(*same).order_by(Evaluation.id.desc()).limit(1))
        present = _known(connection, open_id) if open_id is not None else set()
        if open_id is not None and {example for example, _ in present} <= set(example_ids):
            return open_id, present
        connection.execute(delete(Evaluation).where(*_unfinished(question)))
        return _open(connection, question, conditions, encoder, total), set()


def record_predictions(store: Store, evaluation_id: int, rows: Sequence[PredictionRow]) -> None:
    """Add predictions to an open evaluation and advance its `done`."""
    if not rows:
        return
    advance = update(Evaluation).where(Evaluation.id == evaluation_id).values(done=Evaluation.done + len(rows))
    with writing(store) as connection:
        connection.execute(insert(Prediction), [_prediction(evaluation_id, row) for row in rows])
        connection.execute(advance)


def record_evaluation(
    store: Store,
    run_id: int,
    rows: Sequence[PredictionRow],
    *,
    benchmark: str,
    split: str,
    step: int,
    conditions: dict[str, Any],
    is_first: bool = True,
    is_last: bool = True,
) -> float | None:
    """Add an evaluation made by a script, whole or in parts; return the share of right answers once it is known.

    The first part replaces the same evaluation at the same step, and the last part closes it. A part may arrive twice.
    """
    figures: dict[str, Any] = {}
    question = _question(run_id, benchmark, split, "val", step, conditions)
    equal = [Evaluation.__table__.c[name] == value for name, value in question.items()]
    with writing(store) as connection:
        if is_first:
            connection.execute(delete(Evaluation).where(*equal))
        opened = connection.scalar(select(Evaluation.id).where(*equal))
        if opened is None:
            opened = _open(connection, question, conditions, None, 0)
        present = _known(connection, opened)
        new = [_prediction(opened, row) for row in rows if (row.example_id, row.sample) not in present]
        if new:
            connection.execute(insert(Prediction), new)
        done = len(present) + len(new)
        values: dict[str, Any] = {"done": done, "total": done}
        this = Evaluation.id == opened
        if is_last:
            figures = _figures(connection, opened)
            values |= {"metrics": figures, "ended_at": time.time()}
            insert_event(connection, run_id, "evaluation", f"val on {benchmark}.", step=step)
        connection.execute(update(Evaluation).where(this).values(values))
    return figures.get("exact_match")


def _figures(connection: Connection, evaluation_id: int) -> dict[str, Any]:
    """Return the number of predictions, and the share of right greedy answers if all are judged."""
    of_it = Prediction.evaluation_id == evaluation_id
    n = connection.scalar(select(func.count()).select_from(Prediction).where(of_it)) or 0
    greedy = list(connection.scalars(select(Prediction.correct).where(of_it, Prediction.sample == 0)))
    if not greedy or None in greedy:
        return {"n": n}
    return {"n": len(greedy), "exact_match": sum(map(bool, greedy)) / len(greedy)}


def finish_evaluation(store: Store, evaluation_id: int, metrics: dict[str, Any]) -> None:
    """Close an evaluation with its metrics (`n`, `exact_match`, …); a `val` or `test` also adds an event."""
    values = {"metrics": storable(metrics), "ended_at": time.time()}
    close = update(Evaluation).where(Evaluation.id == evaluation_id).values(values)
    with writing(store) as connection:
        row = connection.execute(
            close.returning(Evaluation.run_id, Evaluation.benchmark, Evaluation.kind, Evaluation.step)
        ).one()
        if row.kind != "probe":
            score, n = metrics.get("exact_match"), metrics.get("n")
            result = "" if score is None else f": {score:.1%} right" + (f" of {n}" if n else "")
            insert_event(connection, row.run_id, "evaluation", f"{row.kind} on {row.benchmark}{result}.", step=row.step)


def list_evaluations(store: Store, run_id: int) -> list[EvaluationRow]:
    """Return all evaluations of a run by step; unfinished ones have no `ended_at`."""
    return evaluations_by_run(store, [run_id])[run_id]


def evaluations_by_run(store: Store, run_ids: Sequence[int]) -> dict[int, list[EvaluationRow]]:
    """Return the result of `list_evaluations` for each of these runs."""
    statement = select(*columns(Evaluation, EvaluationRow)).where(Evaluation.run_id.in_(run_ids))
    by_run: dict[int, list[EvaluationRow]] = {id: [] for id in run_ids}
    with reading(store) as connection:
        for row in connection.execute(statement.order_by(Evaluation.step, Evaluation.id)):
            by_run[row.run_id].append(sound_row(Evaluation, EvaluationRow, row))
    return by_run


def list_evaluated(store: Store, kinds: Sequence[str]) -> set[int]:
    """Return the ids of runs with a finished evaluation of one of these kinds."""
    finished = (Evaluation.kind.in_(kinds), Evaluation.ended_at.is_not(None))
    with reading(store) as connection:
        return set(connection.scalars(select(Evaluation.run_id).where(*finished).distinct()))


def run_of_evaluation(store: Store, evaluation_id: int) -> int | None:
    with reading(store) as connection:
        return connection.scalar(select(Evaluation.run_id).where(Evaluation.id == evaluation_id))


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


def _prediction(evaluation_id: int, row: PredictionRow) -> dict[str, Any]:
    return {
        **trace_columns(row),
        "evaluation_id": evaluation_id,
        "example_id": row.example_id,
        "sample": row.sample,
        "similarity": finite(row.similarity),
        "seconds": finite(row.seconds),
    }


def _hash(conditions: Any) -> str:
    return hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:16]
