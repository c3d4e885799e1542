"""Experiments with their runs, and the arrays that comparisons are made of."""

from __future__ import annotations

import numpy as np
import pytest

from store import read, write
from store.engine import Store, StoreError
from tests.store import make


def test_an_experiment_keeps_its_matrix_and_arms(store: Store) -> None:
    first, second = make.run(store, "a"), make.run(store, "b")
    older = write.create_experiment(store, name="older", matrix={})
    made = write.create_experiment(store, name="tables", matrix={"ranks": [32, 64]})
    for run, arm in ((first, "SFT"), (second, "GRPO")):
        write.add_to_experiment(store, made.id, run.id, arm)
    found = read.experiment(store, made.uid)
    assert (found.name, found.matrix, found.arms) == (
        "tables",
        {"ranks": [32, 64]},
        {first.id: "SFT", second.id: "GRPO"},
    )
    assert [row.uid for row in read.experiments(store)] == [made.uid, older.uid]
    write.delete_run(store, first.id)
    assert read.experiment(store, made.uid).arms == {second.id: "GRPO"}
    with pytest.raises(StoreError, match="There is no experiment 'x'"):
        read.experiment(store, "x")


def test_scores_are_the_greedy_predictions_by_example(store: Store) -> None:
    run = make.run(store)
    ids = write.add_examples(store, [make.example("a"), make.example("b"), make.example("c", images=())])
    evaluation = write.begin_evaluation(
        store, run.id, benchmark="b", split="test", kind="test", step=1, conditions={}, encoder=None, total=4
    )
    rows = [make.prediction(ids[1], answer=None, correct=False), make.prediction(ids[0], similarity=0.5)]
    rows += [make.prediction(ids[0], 1, correct=False), make.prediction(ids[2])]
    write.record_predictions(store, evaluation, rows)
    found = read.scores(store, evaluation)
    assert found.example_id.tolist() == ids
    assert found.correct.tolist() == [1.0, 0.0, 1.0]
    assert np.isnan(found.answer).tolist() == [False, True, False]
    assert found.similarity[0] == 0.5 and np.isnan(found.similarity[1])
    assert found.image[0] == found.image[1] != found.image[2]
    assert found.truth.tolist() == [1.0, 1.0, 1.0]
    assert len(read.scores(store, evaluation + 1).example_id) == 0
