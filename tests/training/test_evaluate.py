"""The harness: the same answers whatever the batch, and no trace of it in the training random state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from app.drift import curves
from trainer.datasets import shapes
from trainer.evaluate import generation, recording, similarity
from trainer.evaluate.generation import Decoding
from trainer.evaluate.similarity import Encoder
from trainer.models import loading
from trainer.spec import config
from trainer.spec import similarity as definitions

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def base() -> Any:
    return loading.load_base(config.ModelConfig())


def texts(base: Any, examples: list[Any], batch: int, decoding: Decoding | None = None) -> list[str]:
    found = generation.answers(
        base.model, base.processor, examples, decoding or Decoding(40), style="cot", batch_size=batch
    )
    return [answer.text for _, answers in found for answer in answers]


def test_batch_size_and_order_do_not_change_greedy_answers(base: Any) -> None:
    examples = shapes.examples("simple", "val", 12, 0)
    whole = texts(base, examples, 12)
    assert texts(base, examples, 1) == whole
    assert texts(base, examples[::-1], 5) == whole[::-1]


def test_the_ceiling_is_that_of_examples_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = shapes.examples("simple", "val", 5, 0)
    encoder = Encoder(similarity.DEFAULT_ENCODER)
    pairs = [(str(example.meta["second_reference"]), str(example.reference)) for example in examples]
    each = similarity.cosines(encoder, *zip(*pairs, strict=True))
    assert recording.similarity_bounds(encoder, examples)["cos_ceiling"] == pytest.approx(each.mean())
    monkeypatch.setattr(definitions, "CEILING_EXAMPLES", 3)
    assert recording.similarity_bounds(encoder, examples)["cos_ceiling"] == pytest.approx(each[[0, 2, 4]].mean())


@pytest.mark.parametrize("n", [2, 3, 7])
def test_the_floor_never_compares_a_reference_with_itself(n: int) -> None:
    """References at right angles to each other: only a reference and itself are alike."""
    words = [f"reasoning number {i}" for i in range(n)]
    apart = dict(zip(words, np.eye(n), strict=True))
    drawn = shapes.examples("simple", "val", n, 0)
    examples = [replace(e, reference=word, meta={}) for e, word in zip(drawn, words, strict=True)]
    found = recording.similarity_bounds(lambda texts: np.stack([apart[text] for text in texts]), examples)
    assert (found["cos_floor"], found["cos_at_0.8_floor"]) == (0.0, 0.0)


@pytest.mark.parametrize("n", [2, 5, 300])
def test_the_drift_page_draws_the_floor_and_the_ceiling_of_the_evaluation(n: int) -> None:
    random = np.random.default_rng(n)
    vectors = random.normal(size=(2 * n, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    known = {f"text {i}": vector for i, vector in enumerate(vectors)}
    (drawn,) = shapes.examples("simple", "val", 1, 0)
    examples = [replace(drawn, reference=f"text {i}", meta={"second_reference": f"text {n + i}"}) for i in range(n)]
    found = recording.similarity_bounds(lambda texts: np.stack([known[text] for text in texts]), examples)
    assert curves.floor(vectors[:n]) == pytest.approx(found["cos_floor"], abs=1e-6)
    assert curves.floor(vectors[:n][::-1]) == pytest.approx(found["cos_floor"], abs=1e-6), "whatever their order"
    assert curves.ceiling(vectors[:n], vectors[n:]) == pytest.approx(found["cos_ceiling"], abs=1e-6)


def test_one_reference_has_no_floor() -> None:
    (example,) = shapes.examples("simple", "val", 1, 0)
    found = recording.similarity_bounds(lambda texts: np.ones((len(texts), 1)), [example])
    assert "cos_floor" not in found and "cos_at_0.8_floor" not in found


def test_evaluation_leaves_random_state_and_mode_alone(base: Any) -> None:
    examples = shapes.examples("simple", "val", 2, 0)
    base.model.train()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    texts(base, examples, 2, Decoding(10, temperature=1.0))
    assert torch.equal(torch.get_rng_state(), before)
    assert base.model.training


def test_sampling_repeats_with_its_seed_and_differs_with_another(base: Any) -> None:
    examples = shapes.examples("simple", "val", 8, 0)
    once = texts(base, examples, 8, Decoding(40, temperature=1.0, seed=1))
    assert texts(base, examples, 8, Decoding(40, temperature=1.0, seed=1)) == once
    assert texts(base, examples, 8, Decoding(40, temperature=1.0, seed=2)) != once


def test_a_forced_prefix_is_part_of_the_text(base: Any) -> None:
    examples = shapes.examples("simple", "val", 3, 0)
    assert all(t.startswith("<think>1.") for t in texts(base, examples, 3, Decoding(20, forced_prefix="<think>1.")))


def test_kl_of_a_fresh_adapter_is_zero(base: Any) -> None:
    from peft import get_peft_model

    model = get_peft_model(loading.load_base(config.ModelConfig()).model, loading.adapter(config.LoraConfig()))
    examples = shapes.examples("simple", "val", 2, 0)
    ids = [base.processor.tokenizer(" <think>1. red")["input_ids"], base.processor.tokenizer(" 4")["input_ids"]]
    found, split = (
        generation.token_statistics(
            model,
            base.processor,
            examples,
            ids,
            style="cot",
            instruction=None,
            reference=model.disable_adapter,
            batch_size=batch_size,
        )
        for batch_size in (2, 1)
    )
    assert found.kl == pytest.approx(0, abs=1e-9)
    assert found.entropy > 0
    assert split.entropy == pytest.approx(found.entropy, rel=1e-5)


def test_no_completion_holds_an_image_place_holder(base: Any) -> None:
    """One that did could not be fed back to the model: image features and image tokens would not match."""
    examples = shapes.examples("simple", "val", 60, 0)
    hot = Decoding(40, temperature=5.0)
    [(_, answers)] = generation.answers(base.model, base.processor, examples, hot, style="cot")
    sampled = {token for answer in answers for token in answer.ids}
    assert len(sampled) > 400
    assert base.model.config.image_token_id not in sampled
    generation.token_statistics(
        base.model,
        base.processor,
        examples,
        [answer.ids for answer in answers],
        style="cot",
        instruction=None,
        reference=None,
        batch_size=60,
    )
