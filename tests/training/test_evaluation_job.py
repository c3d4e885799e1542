"""Evaluations as jobs: by majority, blind, with samples, and what cannot be asked for."""

from __future__ import annotations

from typing import Any

import pytest

from store.db.engine import Store
from store.db.rows import EvaluationRow, JobRow
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import list_evaluations
from store.jobs import get_job
from trainer import datasets, launch
from trainer.evaluate.baselines import majority
from trainer.jobs.job import execute
from trainer.spec import config

pytestmark = pytest.mark.training

FEW = {"train_examples": 30, "test_examples": 6}


def evaluated(store: Store, arguments: dict[str, Any], **settings: Any) -> tuple[JobRow, list[EvaluationRow]]:
    """A job of a run that trains nothing, executed; and what it left."""
    values = {"method": "none", "max_tokens": 24, "data": FEW, "evaluation": {"encoder": ""}}
    run, job = launch.create(store, config.from_dict(values | settings), arguments=arguments)
    execute(store, get_job(store, job.uid))
    return get_job(store, job.uid), list_evaluations(store, run.id)


def test_the_majority_answers_without_a_model(store: Store) -> None:
    job, [found] = evaluated(store, {"baseline": "majority"})
    assert job.state == "finished", job.error
    assert (found.kind, found.total, found.conditions["baseline"]) == ("baseline", 6, "majority")
    data = config.DataConfig(**FEW)
    train, test = (datasets.load_role(data, role, n) for role, n in (("train", 30), ("test", 6)))
    expected = majority(train, [example.question for example in test])
    said = {row.example: row.answer for row in iter_predictions_of(store, found.id)}
    assert said == {example.id: answer for example, answer in zip(test, expected, strict=True)}
    right = [answer == example.answer for example, answer in zip(test, expected, strict=True)]
    assert found.metrics["exact_match"] == sum(right) / 6


def test_a_blind_evaluation_with_samples_on_another_benchmark(store: Store) -> None:
    job, [found] = evaluated(store, {"baseline": "blind", "samples": 2, "benchmark": "shapes-hard", "limit": 4})
    assert job.state == "finished", job.error
    assert (found.benchmark, found.kind, found.total, found.done) == ("shapes-hard", "baseline", 12, 12)
    assert {"exact_match", "rmse", "consistent", "by_count", "by_difficulty", "pass@2", "maj@2"} <= found.metrics.keys()


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        ({"benchmark": "shapes-simple:complex"}, {}, "Choose shapes-complex"),
        ({"baseline": "lucky"}, {}, "Unknown baseline 'lucky'"),
        ({"thinking": True}, {"style": "direct"}, "no reasoning to alter"),
        ({"thinking": True}, {"max_tokens": 2}, "no reasoning to alter"),
    ],
)
def test_what_cannot_be_evaluated_says_why(
    store: Store, arguments: dict[str, Any], settings: dict[str, Any], sentence: str
) -> None:
    job, found = evaluated(store, arguments, **settings)
    assert job.state == "failed" and sentence in (job.error or "")
    assert found == []
