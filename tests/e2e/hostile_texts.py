"""A run whose last step and last evaluation hold texts that try to act in a browser."""

from __future__ import annotations

import time

from store.completions.rows import list_groups
from store.db.engine import Store
from store.db.rows import CompletionRow, PredictionRow
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.steps import record_step
from tests import seeded
from tests.pages.test_token_view import by_character
from tests.pages.test_trace_view import HOSTILE
from trainer.spec.config import from_dict

NAME, STEP = "odd", 171


def add_run(store: Store) -> None:
    """A finished GRPO run, and after its end one group of hostile texts, as completions and as predictions."""
    settings = seeded.config("shapes-grpo", "seed=4")
    train, val = seeded.examples(store, "train", 24), seeded.examples(store, "val", 24)
    with seeded.at(time.time() - 9000) as clock:
        named = from_dict(settings.model_dump(mode="json") | {"name": NAME})
        seeded.finished(store, clock, named, train, val, pace=2.0)
    run = seeded.find(store, NAME)
    example = list_groups(store, run.id, 1)[0].completions[0].example_id
    assert example is not None
    texts = [text.encode("utf-8", "replace").decode() for text in (*HOSTILE, "x" * 100_000)]
    rows = [
        CompletionRow(
            text=f"hostile {text}",
            wellformed=False,
            correct=False,
            tokens=9,
            reward=float(i),
            generation=0,
            group=0,
            index=i,
            example_id=example,
            advantage=0.0,
        )
        for i, text in enumerate(texts)
    ]
    tokens = {i: by_character(row.text) for i, row in enumerate(rows)}
    record_step(store, run.id, STEP, {"reward": 1.0}, at=time.time(), completions=rows, measured=tokens)
    evaluation = begin_evaluation(
        store,
        run.id,
        benchmark=run.dataset,
        split="val",
        kind="val",
        step=STEP,
        conditions={"prompt": "5d41402abc4b2a76", "temperature": 0.0},
        encoder=None,
        total=len(rows),
    )
    predictions = [
        PredictionRow(text=row.text, wellformed=False, correct=False, example_id=example, sample=i)
        for i, row in enumerate(rows)
    ]
    record_predictions(store, evaluation, predictions)
    finish_evaluation(store, evaluation, {"n": len(rows), "exact_match": 0.0})
