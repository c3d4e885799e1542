"""One evaluation harness: the same figures whatever batch and order, resumed without repeating, stopped by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.db.engine import Store
from store.db.rows import StoredPrediction
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import list_evaluations
from store.jobs import ask_stop
from tests.store import make
from trainer.datasets import shapes
from trainer.evaluate import baselines
from trainer.evaluate.harness import Harness, harness_for
from trainer.evaluate.recording import evaluate
from trainer.models import loading
from trainer.spec import config, rewards
from trainer.spec.errors import Stopped

pytestmark = pytest.mark.training

TOKENS = 24


@pytest.fixture(scope="module")
def harness() -> Harness:
    """The embedded base, without an encoder."""
    wanted = config.from_dict({"method": "none", "max_tokens": TOKENS})
    base = loading.load_base(wanted.model)
    return harness_for(wanted, base.model, base.processor, rewards.build(wanted), None)


def with_batch(harness: Harness, size: int) -> Harness:
    values = harness.config.evaluation.model_copy(update={"batch_size": size})
    return replace(harness, config=harness.config.model_copy(update={"evaluation": values}))


def texts(harness: Harness, examples: list[Any], samples: int) -> dict[str, list[str]]:
    decoding = harness.sampling if samples else harness.decoding
    found = harness.predict(examples, decoding, samples or 1)
    return {example.id: [answer.text for answer in each] for example, each in zip(examples, found, strict=True)}


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(8)), size=st.integers(1, 9), samples=st.sampled_from([0, 2]))
def test_batch_size_and_order_change_no_answer(harness: Harness, order: list[int], size: int, samples: int) -> None:
    examples = shapes.examples("simple", "test", 8, 0)
    whole = texts(with_batch(harness, 100), examples, samples)
    assert texts(with_batch(harness, size), [examples[i] for i in order], samples) == whole


def test_samples_of_one_example_differ_and_follow_the_temperature(harness: Harness) -> None:
    """The noise draws from the softmax: at the first token, shares are the model's probabilities."""
    import torch

    from trainer.evaluate.generation import Noise

    logits = torch.tensor([[0.0, 1.0, 2.0, float("-inf")]])
    draw = Noise(2.0, [5])
    counts = np.bincount([int(draw(logits, logits).argmax()) for _ in range(4000)], minlength=4)
    assert counts / 4000 == pytest.approx(torch.softmax(logits / 2, -1)[0].numpy(), abs=0.03)
    [answers] = harness.predict(shapes.examples("simple", "test", 1, 0), harness.sampling, 6)
    assert len({answer.text for answer in answers}) > 1


def predictions(store: Store, evaluation: int) -> list[StoredPrediction]:
    return list(iter_predictions_of(store, evaluation))


def after(batches: int) -> Callable[[], None]:
    """A stop that is asked for after so many batches."""
    left = iter(range(batches))

    def pause() -> None:
        if next(left, None) is None:
            raise Stopped

    return pause


def test_an_interrupted_evaluation_goes_on_without_repeating(store: Store, harness: Harness) -> None:
    run = make.run(store)
    examples = shapes.examples("simple", "test", 10, 0)
    small = with_batch(harness, 4)
    with pytest.raises(Stopped):
        evaluate(store, run.id, small, examples, kind="test", step=5, samples=2, pause=after(3))
    (stopped,) = list_evaluations(store, run.id)
    before = {row.id: row.text for row in predictions(store, stopped.id)}
    assert (stopped.done, stopped.ended_at, len(before)) == (10 + 2 * 2, None, 14)
    figures = evaluate(store, run.id, small, examples, kind="test", step=5, samples=2)
    (done,) = list_evaluations(store, run.id)
    rows = predictions(store, done.id)
    assert (done.id, done.done, done.total, len(rows)) == (stopped.id, 30, 30, 30)
    assert before.items() <= {row.id: row.text for row in rows}.items()
    assert all(row.seconds and row.seconds > 0 for row in rows)

    other = make.run(store, "whole")
    assert evaluate(store, other.id, harness, examples, kind="test", step=5, samples=2) == figures
    assert figures["n"] == 10 and {"pass@1", "pass@2", "maj@2"} <= figures.keys()


def test_other_examples_or_conditions_begin_anew(store: Store, harness: Harness) -> None:
    run = make.run(store)
    small = with_batch(harness, 4)
    for seed, tokens in ((0, TOKENS), (1, TOKENS), (1, TOKENS - 4)):
        changed = replace(small, decoding=replace(small.decoding, max_tokens=tokens))
        with pytest.raises(Stopped):
            examples = shapes.examples("simple", "test", 10, seed)
            evaluate(store, run.id, changed, examples, kind="test", step=5, pause=after(1))
    assert [row.done for row in list_evaluations(store, run.id)] == [8, 8]


def test_baselines_are_evaluations_of_the_same_examples_under_conditions_of_their_own(
    store: Store, harness: Harness
) -> None:
    run = make.run(store)
    examples = shapes.examples("simple", "test", 6, 0)
    evaluate(store, run.id, harness, examples, kind="test", step=0)
    evaluate(store, run.id, harness, examples, kind="baseline", step=0, baseline="blind")
    evaluate(store, run.id, harness, examples, kind="baseline", step=0, baseline="shuffled")
    found = list_evaluations(store, run.id)
    assert [row.conditions.get("baseline") for row in found] == [None, "blind", "shuffled"]
    assert len({row.conditions_hash for row in found}) == 3
    answered = [[(row.example, row.truth) for row in predictions(store, each.id)] for each in found]
    assert answered[0] == answered[1] == answered[2]


def test_blind_and_shuffled_pictures() -> None:
    examples = shapes.examples("simple", "test", 5, 0)
    blind = baselines.examples_shown("blind", examples)
    assert {picture.load().getcolors()[0][1] for e in blind for picture in e.pictures} == {baselines.GREY}
    assert blind[0].pictures[0].load().size == examples[0].pictures[0].load().size
    shuffled = baselines.examples_shown("shuffled", examples)
    assert [e.id for e in shuffled] == [e.id for e in examples]
    assert sorted(e.pictures[0].identity for e in shuffled) == sorted(e.pictures[0].identity for e in examples)
    assert all(a.pictures != b.pictures for a, b in zip(shuffled, examples, strict=True))


def test_the_majority_answer_of_a_question_type() -> None:
    def asked(question: str, answer: int) -> Any:
        return replace(example, question=question, answer=answer)

    [example] = shapes.examples("simple", "train", 1, 0)
    train = [asked("How many red dots?", n) for n in (2, 2, 7)]
    train += [asked("How many blue dots?", n) for n in (7, 7, 5, 5)]
    questions = ["how many RED squares are there?", "How many blue dots?", "How many cows?"]
    assert baselines.majority(train, questions) == [2, 5, 7]


def test_a_stop_is_obeyed_after_the_batch(store: Store, harness: Harness) -> None:
    from trainer.jobs.activity import stop_if_asked

    run = make.run(store)
    job_id = make.running_job(store, run.id)
    ask_stop(store, job_id)
    examples = shapes.examples("simple", "test", 6, 0)
    with pytest.raises(Stopped):
        evaluate(
            store,
            run.id,
            with_batch(harness, 2),
            examples,
            kind="test",
            step=0,
            pause=lambda: stop_if_asked(store, job_id),
        )
    assert list_evaluations(store, run.id)[0].done == 2
