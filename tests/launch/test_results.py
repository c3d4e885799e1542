"""What the terminal says of the evaluations that a job made."""

from __future__ import annotations

import time
from typing import Any

from store.db.engine import Store
from store.evaluations.records import begin_evaluation, finish_evaluation
from tests.store import make
from trainer.jobs import results


def evaluated(store: Store, run_id: int, kind: str, metrics: dict[str, Any], **conditions: str) -> None:
    made = begin_evaluation(
        store,
        run_id,
        benchmark="countqa",
        split="test",
        kind=kind,
        step=40,
        conditions=conditions,
        encoder=None,
        total=4,
    )
    finish_evaluation(store, made, {"n": 4, **metrics})


def test_results_are_told_with_their_intervals(store: Store) -> None:
    run = make.run(store)
    right = {"exact_match": 0.25, "exact_match_low": 0.046, "exact_match_high": 0.699, "wellformed": 0.5}
    evaluated(store, run.id, "test", right)
    begun = time.time()
    evaluated(store, run.id, "probe", right)
    evaluated(store, run.id, "test", right)
    evaluated(store, run.id, "baseline", {"exact_match": 0.5}, baseline="blind")
    evaluated(
        store, run.id, "thinking", {"changed": 0.75, "changed_low": 0.3, "changed_high": 0.954}, thinking="emptied"
    )
    assert sorted(results.result_lines(store, run.id, begun)) == [
        "countqa, blind, step 40: exact match 0.500 of 4",
        "countqa, test, step 40: exact match 0.250 (0.046–0.699) of 4, well-formed 0.500",
        "countqa, thinking emptied, step 40: 0.750 (0.300–0.954) of 4 answers change",
    ]
