"""The control arms: imitation of the base's own right samples, and a reward that knows nothing of the answer."""

from __future__ import annotations

import pytest

from store import trace
from store.completions.rows import list_groups
from store.db.engine import Store
from tests.training.conftest import Train
from trainer.datasets import shapes
from trainer.evaluate.harness import Harness, harness_for
from trainer.models import loading
from trainer.spec import config, rewards
from trainer.spec.errors import Stopped, TrainerError
from trainer.train import rejection_sampling

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def harness() -> Harness:
    wanted = config.from_dict({"method": "none", "max_tokens": 48})
    base = loading.load_base(wanted.model)
    return harness_for(wanted, base.model, base.processor, rewards.build(wanted), None)


def test_own_samples_are_right_and_well_formed_and_always_the_same(harness: Harness) -> None:
    examples = shapes.examples("simple", "train", 50, 0)
    found = rejection_sampling.references(harness, examples, lambda: None)
    truths = {example.id: example.answer for example in examples}
    assert found == rejection_sampling.references(harness, examples, lambda: None)
    for example in found:
        assert example.reference and example.answer == truths[example.id]
        assert trace.parse(f"<think>{example.reference}</think><answer>{example.answer}</answer>").wellformed


def test_a_model_that_is_never_right_has_nothing_to_imitate(harness: Harness) -> None:
    examples = shapes.examples("simple", "train", 1, 0)
    impossible = [type(examples[0])(**{**vars(examples[0]), "answer": 999_999})]
    with pytest.raises(TrainerError, match="nothing to imitate"):
        rejection_sampling.references(harness, impossible, lambda: None)

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        rejection_sampling.references(harness, examples, stop)


def test_the_controls_train(store: Store, train: Train) -> None:
    own = train("shapes-sft", {"imitate": "rejection samples", "data.train_examples": "60", "max_tokens": "48"})
    assert own.status == "finished", own.job
    assert own.environment["data"]["rejection_samples"] >= 1
    unpaid = {f"rewards.{name}": "0" for name in ("format", "accuracy", "steps")}
    coin = train("shapes-grpo", unpaid | {"rewards.random": "1"})
    assert coin.status == "finished", coin.job
    found = [c.rewards["random"] for group in list_groups(store, coin.id, 1) for c in group.completions]
    assert set(found) == {0.0, 1.0}
