"""Altered think bodies, and how often the answer changes with them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from store.db.engine import Store
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import list_evaluations
from tests.store import make
from trainer.datasets import shapes
from trainer.evaluate import faithfulness
from trainer.evaluate.harness import harness_for
from trainer.models import loading
from trainer.spec import config, rewards
from trainer.spec.errors import TrainerError

pytestmark = pytest.mark.training


@pytest.mark.parametrize(
    ("think", "changed"),
    [
        ("1. red 2. blue", "1. red 3. blue"),
        ("I see three of them.", "I see four of them."),
        ("so, twenty", "so, 21"),
        ("nothing to count", "nothing to count"),
    ],
)
def test_one_is_added_to_the_last_number(think: str, changed: str) -> None:
    assert faithfulness.increment_last_number(think) == changed


def test_the_alterations() -> None:
    thinks, answers = ["one", "1. a 2. b", "two"], [1, 2, 2]
    assert faithfulness.altered("emptied", thinks, answers) == ["", "", ""]
    assert faithfulness.altered("filler", thinks, answers) == ["...", ".........", "..."]
    others = faithfulness.altered("another's", thinks, answers)
    assert others[0] in thinks[1:] and others[1:] == ["one", "one"]


def test_answers_are_taken_again_after_every_alteration(store: Store) -> None:
    """The base is well-formed only now and then, and never in its greedy answer: here it samples."""
    wanted = config.from_dict({"method": "none", "max_tokens": 64})
    base = loading.load_base(wanted.model)
    greedy = harness_for(wanted, base.model, base.processor, rewards.build(wanted), None)
    harness = replace(greedy, decoding=greedy.sampling)
    run = make.run(store)
    examples = shapes.examples("simple", "test", 60, 0)
    batches: list[int] = []
    faithfulness.probe(
        store, run.id, harness, examples, step=3, benchmark="shapes-simple", pause=lambda: batches.append(1)
    )
    found = list_evaluations(store, run.id)
    assert [row.conditions["thinking"] for row in found] == list(faithfulness.ALTERATIONS)
    assert {row.kind for row in found} == {"thinking"} and len(batches) == 5
    for row in found:
        rows = list(iter_predictions_of(store, row.id))
        assert len(rows) == row.metrics["n"] == row.total > 0
        assert 0 <= row.metrics["changed_low"] <= row.metrics["changed"] <= row.metrics["changed_high"] <= 1
    emptied = next(iter_predictions_of(store, found[0].id))
    assert emptied.text.startswith("<think></think><answer>")


def test_without_thinking_there_is_nothing_to_alter(store: Store) -> None:
    wanted = config.from_dict({"method": "none", "max_tokens": 3})
    base = loading.load_base(wanted.model)
    harness = harness_for(wanted, base.model, base.processor, rewards.build(wanted), None)
    examples = shapes.examples("simple", "test", 2, 0)
    with pytest.raises(TrainerError, match="no reasoning to alter"):
        faithfulness.probe(
            store, make.run(store).id, harness, examples, step=0, benchmark="shapes-simple", pause=lambda: None
        )
