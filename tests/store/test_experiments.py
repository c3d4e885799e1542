"""Experiments with their runs, and the arrays that comparisons are made of."""

from __future__ import annotations

import numpy as np
import pytest

from store.db.engine import Store, StoreError
from store.evaluations.predictions import read_scores
from store.evaluations.records import begin_evaluation, record_predictions
from store.examples import add_examples
from store.experiments import add_to_experiment, create_experiment, get_experiment, list_experiments
from store.runs import delete_run
from tests.store import make


def test_an_experiment_keeps_its_matrix_and_arms(store: Store) -> None:
    first, second = make.run(store, "a"), make.run(store, "b")
    older = create_experiment(store, name="older", matrix={})
    made = create_experiment(store, name="tables", matrix={"ranks": [32, 64]})
    for run, arm in ((first, "SFT"), (second, "GRPO")):
        add_to_experiment(store, made.id, run.id, arm)
    found = get_experiment(store, made.uid)
    assert (found.name, found.matrix, found.arms) == (
        "tables",
        {"ranks": [32, 64]},
        {first.id: "SFT", second.id: "GRPO"},
    )
    assert [row.uid for row in list_experiments(store)] == [made.uid, older.uid]
    delete_run(store, first.id)
    assert get_experiment(store, made.uid).arms == {second.id: "GRPO"}
    with pytest.raises(StoreError, match="Experiment 'x' does not exist"):
        get_experiment(store, "x")


def test_scores_are_the_greedy_predictions_by_example(store: Store) -> None:
    run = make.run(store)
    ids = add_examples(store, [make.example("a"), make.example("b"), make.example("c", images=())])
    evaluation = begin_evaluation(
        store, run.id, benchmark="b", split="test", kind="test", step=1, conditions={}, encoder=None, total=4
    )
    rows = [make.prediction(ids[1], answer=None, correct=False), make.prediction(ids[0], similarity=0.5)]
    rows += [make.prediction(ids[0], 1, correct=False), make.prediction(ids[2])]
    record_predictions(store, evaluation, rows)
    found = read_scores(store, evaluation)
    assert found.example_id.tolist() == ids
    assert found.correct.tolist() == [1.0, 0.0, 1.0]
    assert np.isnan(found.answer).tolist() == [False, True, False]
    assert found.similarity[0] == 0.5 and np.isnan(found.similarity[1])
    assert found.image[0] == found.image[1] != found.image[2]
    assert found.truth.tolist() == [1.0, 1.0, 1.0]
    assert len(read_scores(store, evaluation + 1).example_id) == 0
